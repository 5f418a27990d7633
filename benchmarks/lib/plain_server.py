"""A plain server of ten lines, FastAPI and sentence-transformers, for `benchmarks.serve`.

python -m benchmarks.lib.plain_server FOLDER PORT
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(sys.argv[1], device="cpu")


class Body(BaseModel):
    """Texts to encode."""

    inputs: list[str]


@app.post("/embed")
def embed(body: Body) -> list[list[float]]:
    """Return the vectors of texts."""
    return model.encode(body.inputs, show_progress_bar=False).tolist()


@app.get("/health")
def health() -> str:
    """Answer when the model is open."""
    return "ready"


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
