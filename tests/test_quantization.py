"""Codes by hand, and from `encode` and the command line; parity/ compares with
sentence-transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsbert.quantization import (
    PRECISIONS,
    calibration_ranges,
    dequantize_embeddings,
    quantize_embeddings,
)
from tests import command_line, models

BYTES, BITS = ("int8", "uint8"), ("binary", "ubinary")
TEXTS = models.sentences(23, seed=5)


def vectors(count, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


@pytest.mark.parametrize(
    "precision, codes",
    [
        (
            "float32",
            [[0, -3, 63.74, 2, 9, 0, -1, 1, 1], [255, 255, -1, 2, 1e9, -1e9, 0, 1.99, 300]],
        ),
        ("uint8", [[0, 126, 254, 0, 9, 0, 0, 1, 1], [255, 255, 0, 0, 255, 0, 0, 1, 255]]),
        (
            "int8",
            [
                [-128, -2, 126, -128, -119, -128, -128, -127, -127],
                [127, 127, -128, -128, 127, -128, -128, -127, 127],
            ],
        ),
        ("ubinary", [[0b00111001, 0b10000000], [0b11011001, 0b10000000]]),
        ("binary", [[0b00111001 - 128, 0], [0b11011001 - 128, 0]]),
    ],
)
def test_codes_by_hand(precision, codes):
    embeddings = np.float32(
        [[0, -3, 63.74, 2, 9, 0, -1, 1, 1], [255, 255, -1, 2, 1e9, -1e9, 0, 1.99, 300]]
    )
    # The buckets are 1, 2 and 1/4 wide. All values of dimension 3 are equal.
    ranges = np.float32(
        [[0, -255, 0, 2, 0, 0, 0, 0, 0], [255, 255, 63.75, 2, 255, 255, 255, 255, 255]]
    )
    found = quantize_embeddings(embeddings, precision, ranges)
    assert found.dtype == {"binary": "int8", "ubinary": "uint8"}.get(precision, precision)
    assert found.tolist() == np.asarray(codes, np.float32).tolist()
    assert np.array_equal(quantize_embeddings(embeddings[1], precision, ranges), found[1])
    on_device = jax.jit(quantize_embeddings, static_argnums=1)(
        jnp.asarray(embeddings), precision, ranges
    )
    assert (on_device.dtype, on_device.tolist()) == (found.dtype, found.tolist())


@pytest.mark.parametrize("precision", BYTES)
def test_a_byte_stands_for_a_number_within_half_a_bucket(precision):
    embeddings, ranges = vectors(50, 7), calibration_ranges(vectors(400, 7, seed=1))
    back = dequantize_embeddings(
        quantize_embeddings(embeddings, precision, ranges), precision, ranges
    )
    half = (ranges[1] - ranges[0]) / 510
    assert (np.abs(back - embeddings.clip(*ranges)) <= 1.001 * half).all()
    assert np.abs(back - embeddings.clip(*ranges)).max() > 0.9 * half.min()
    alike = np.full((3, 2), 4, np.float32)
    ranges = calibration_ranges(alike)
    assert np.array_equal(
        dequantize_embeddings(quantize_embeddings(alike, precision, ranges), precision, ranges),
        alike,
    )


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("dim", [1, 8, 13])
def test_a_bit_stands_for_a_sign(precision, dim):
    embeddings = vectors(20, dim)
    codes = quantize_embeddings(embeddings, precision)
    assert codes.shape == (20, -(-dim // 8))
    for given in (codes, jnp.asarray(codes)):
        assert np.array_equal(
            dequantize_embeddings(given, precision, dim=dim), np.where(embeddings > 0, 1, -1)
        )
        assert dequantize_embeddings(given[:0], precision, dim=dim).shape == (0, dim)


def test_ranges_are_never_taken_silently_from_what_is_coded(tiny):
    for precision in BYTES:
        with pytest.raises(
            ValueError, match=r"needs the ranges.*calibration_ranges\(vectors\).*ranges='batch'"
        ):
            quantize_embeddings(vectors(9, 4), precision)
        with pytest.raises(ValueError, match="needs the ranges"):
            tiny.encode([], precision=precision)
        with pytest.raises(ValueError, match="needs the ranges"):
            tiny.encode_iter(iter(TEXTS), precision=precision)
    sample, embeddings = vectors(300, 4, seed=1), vectors(9, 4)
    asked = quantize_embeddings(embeddings, "int8", "batch")
    assert (asked.min(axis=0) == -128).all()
    assert (asked.max(axis=0) >= 126).all()  # the highest is 254.99... steps above the lowest
    calibrated = quantize_embeddings(embeddings, "int8", calibration_embeddings=sample)
    assert np.array_equal(
        calibrated, quantize_embeddings(embeddings, "int8", calibration_ranges(sample))
    )
    assert np.array_equal(
        calibrated[:1], quantize_embeddings(embeddings[:1], "int8", calibration_ranges(sample))
    )


def test_matrices_of_tokens_share_their_ranges():
    matrices = [vectors(3, 5), vectors(8, 5, seed=1)]
    together = quantize_embeddings(np.concatenate(matrices), "uint8", "batch")
    found = quantize_embeddings(matrices, "uint8", "batch")
    assert [len(codes) for codes in found] == [3, 8]
    assert np.array_equal(np.concatenate(found), together)


@pytest.mark.parametrize(
    "embeddings, options, message",
    [
        (
            vectors(3, 4),
            {"precision": "int4"},
            "precision is 'int4'; choose one of 'float32', 'int8'",
        ),
        (np.int8([[1, 2]]), {"precision": "binary"}, r"float vectors \(N, D\).*given int8"),
        (
            np.full((2, 4), np.nan, np.float32),
            {"precision": "ubinary"},
            "NaN or infinity, which have no code",
        ),
        (
            vectors(3, 4),
            {"ranges": vectors(2, 5)},
            r"ranges have shape \(2, 5\), the vectors 4 dimensions",
        ),
        (vectors(3, 4), {"ranges": np.float32([[1] * 4, [0] * 4])}, "the lowest in row 0"),
        (vectors(3, 4), {"ranges": "all"}, "ranges is 'all'; give an array"),
        (vectors(1, 4), {"ranges": "batch"}, r"at least two vectors.*\(1, 4\)"),
    ],
)
def test_what_cannot_be_coded_is_refused(embeddings, options, message):
    with pytest.raises(ValueError, match=message):
        quantize_embeddings(embeddings, **{"precision": "int8"} | options)
    with pytest.raises(ValueError, match="int8 codes must be int8; given uint8"):
        dequantize_embeddings(np.uint8([[1]]), "int8", np.float32([[0], [1]]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_encode_truncates_then_normalises_then_codes(tiny, precision):
    options = {"truncate_dim": 11, "normalize_embeddings": True}
    floats = tiny.encode(TEXTS, **options)
    assert np.linalg.norm(floats, axis=1) == pytest.approx(1)
    ranges = calibration_ranges(floats[:15])
    wanted = quantize_embeddings(floats, precision, ranges)
    options |= {"precision": precision, "ranges": ranges}
    found = tiny.encode(TEXTS, **options)
    assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())
    assert np.array_equal(
        np.stack(list(tiny.encode_iter(TEXTS, chunk_size=len(TEXTS), **options))), wanted
    )
    assert (tiny.encode([], **options).shape, tiny.encode(TEXTS[0], **options).shape) == (
        wanted[:0].shape,
        wanted[0].shape,
    )
    assert isinstance(tiny.encode(TEXTS, convert_to_tensor=True, **options), jax.Array)
    whole = tiny.encode(TEXTS, **options | {"ranges": "batch"})
    assert np.array_equal(whole, quantize_embeddings(floats, precision, "batch"))
    assert tiny.encode([], **options | {"ranges": "batch"}).shape == wanted[:0].shape


@pytest.mark.parametrize(
    "options, message",
    [
        ({"precision": "int4"}, "precision is 'int4'; choose one of"),
        ({"precision": "int8", "ranges": "all"}, "ranges is 'all'"),
        (
            {"precision": "int8", "ranges": vectors(2, 24).cumsum(axis=0), "truncate_dim": 7},
            r"give \(2, 7\)",
        ),
        ({"precision": "binary", "output_value": "token_embeddings"}, "is for sentence embeddings"),
    ],
)
def test_wrong_precisions_are_told_before_any_work(tiny, options, message, monkeypatch):
    monkeypatch.setattr(type(tiny.engine), "stream", None)
    with pytest.raises(ValueError, match=message):
        tiny.encode(TEXTS, **options)
    with pytest.raises(ValueError, match="encode_iter never has all the vectors"):
        tiny.encode_iter(TEXTS, precision="int8", ranges="batch")


def test_the_command_line_writes_codes(capfd, tiny, tiny_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf8")

    def encode(name, *options):
        return command_line.run(
            capfd,
            ["encode", tmp_path / "texts.txt", "-o", tmp_path / name, "-m", tiny_folder, *options],
        )

    assert encode("floats.npy") == (0, "", "")
    calibrated = ("--calibration", tmp_path / "floats.npy")
    for precision in PRECISIONS[1:]:
        options = calibrated if precision in BYTES else ()
        assert encode("codes.npy", "--precision", precision, *options) == (0, "", "")
        codes = np.load(tmp_path / "codes.npy")
        wanted = tiny.encode(TEXTS, precision=precision, ranges="batch")
        assert (codes.dtype, codes.tolist()) == (wanted.dtype, wanted.tolist())
    assert encode("codes.parquet", "--precision", "binary") == (0, "", "")
    import pyarrow.parquet

    column = pyarrow.parquet.read_table(tmp_path / "codes.parquet").column("embedding")
    assert column.to_pylist() == tiny.encode(TEXTS, precision="binary").tolist()
    for options in (("--precision", "int8"), ("--precision", "binary", *calibrated)):
        code, _, err = encode("codes.npy", *options)
        assert (code, "--calibration" in err) == (2, True)
