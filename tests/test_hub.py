"""Saved models are uploaded to the Hub: the model card, and the calls to a stand-in."""

import pathlib

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError

from jsbert import CrossEncoder, SentenceTransformer
from tests import models


class Hub:
    """A stand-in for HfApi, which keeps its calls and the files that are uploaded."""

    has_card = False

    def __init__(self, **options):
        self.options = options
        Hub.calls = []
        Hub.files = {}

    def create_repo(self, repo_id, **options):
        if "/" not in repo_id:
            raise HFValidationError(f"no owner in {repo_id}")
        Hub.calls.append(("create_repo", repo_id, options))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_branch(self, repo_id, **options):
        Hub.calls.append(("create_branch", repo_id, options))

    def file_exists(self, repo_id, filename, **options):
        return Hub.has_card

    def upload_folder(self, *, folder_path, **options):
        Hub.calls.append(("upload_folder", options["repo_id"], options))
        folder = pathlib.Path(folder_path)
        Hub.files = {path.relative_to(folder).as_posix(): path.read_bytes()
                     for path in folder.rglob("*") if path.is_file()}  # fmt: skip
        address = f"https://huggingface.co/{options['repo_id']}/commit/1"
        return huggingface_hub.CommitInfo(
            commit_url=address,
            commit_message="",
            commit_description="",
            oid="1",
            pr_url=f"https://huggingface.co/{options['repo_id']}/discussions/1",
        )


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "has_card", False)
    return Hub


def test_what_is_uploaded_opens_as_the_same_model(tmp_path, hub):
    model = SentenceTransformer.from_parts(models.parts(tmp_path / "vocabulary"))
    address = model.push_to_hub("me/mine", private=True, commit_message="first", revision="dev")
    assert address == "https://huggingface.co/me/mine/commit/1"
    assert [(name, repo) for name, repo, _ in hub.calls] == [
        (name, "me/mine") for name in ("create_repo", "create_branch", "upload_folder")
    ]
    assert hub.calls[0][2] == {"private": True, "exist_ok": False}
    options = hub.calls[-1][2]
    assert (options["commit_message"], options["revision"], options["ignore_patterns"]) == (
        "first",
        "dev",
        None,
    )
    for name, content in hub.files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    texts = models.sentences(5)
    assert (SentenceTransformer(tmp_path / "there").encode(texts) == model.encode(texts)).all()


def test_a_repository_keeps_its_card_unless_asked(tmp_path, hub, monkeypatch):
    model = CrossEncoder.from_parts(models.cross_parts(tmp_path))
    monkeypatch.setattr(Hub, "has_card", True)
    assert model.push_to_hub("me/mine", create_pr=True).endswith("/discussions/1")
    assert hub.calls[0][2]["exist_ok"]
    assert hub.calls[-1][2]["ignore_patterns"] == ["README.md"]
    model.push_to_hub("me/mine", exist_ok=True, replace_model_card=True)
    assert hub.calls[-1][2]["ignore_patterns"] is None


def test_what_the_hub_refuses_is_an_oserror(tmp_path, hub):
    model = CrossEncoder.from_parts(models.cross_parts(tmp_path))
    with pytest.raises(OSError, match="'mine' was not uploaded: HFValidationError: no owner"):
        model.push_to_hub("mine")


def test_a_hub_that_cannot_be_reached_is_an_oserror(tmp_path, hub, monkeypatch):
    class NoConnection(Exception):
        """An error such as httpx.ConnectError, which is no OSError."""

    def refused(*_, **__):
        raise NoConnection("connection refused")

    monkeypatch.setattr(Hub, "upload_folder", refused)
    model = CrossEncoder.from_parts(models.cross_parts(tmp_path))
    with pytest.raises(
        OSError, match="'me/mine' was not uploaded: NoConnection: connection refused"
    ):
        model.push_to_hub("me/mine")


def test_a_card_is_written_once_and_left_alone(tmp_path):
    parts = models.parts(
        tmp_path / "v", settings=models.Settings({"query": "find: "}, None, "dot", None)
    )
    model = SentenceTransformer.from_parts(parts)
    model.save_pretrained(tmp_path / "one")
    card = (tmp_path / "one/README.md").read_text()
    assert card.startswith(
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
    )
    for fact in (
        "| dimensions | 24 |",
        "| similarity | dot |",
        "`query`: 'find: '",
        "| modules behind it | Normalize |",
    ):
        assert fact in card
    (tmp_path / "one/README.md").write_text("mine")
    model.save_pretrained(tmp_path / "one")
    assert (tmp_path / "one/README.md").read_text() == "mine"
    model.save_pretrained(tmp_path / "two", create_model_card=False)
    assert not (tmp_path / "two/README.md").exists()


def test_the_card_of_a_cross_encoder(tmp_path):
    CrossEncoder.from_parts(models.cross_parts(tmp_path / "v", num_labels=3)).save_pretrained(
        tmp_path / "saved"
    )
    card = (tmp_path / "saved/README.md").read_text()
    assert "pipeline_tag: text-ranking" in card
    assert "| labels | 3 |" in card
