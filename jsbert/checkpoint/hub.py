"""Upload the folder of a model to the Hugging Face Hub."""

import pathlib

from jsbert.checkpoint.card import FILE


def upload_folder(
    folder: pathlib.Path,
    repo_id: str,
    *,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    exist_ok: bool = False,
    replace_model_card: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload the files of a folder to the Hub. Return the address of the commit or pull request.

    Args:
        folder: the folder to upload.
        repo_id: "owner/name".
        token: hub token, or True for the stored one.
        private: whether a new repository is private; None: as the owner's settings say.
        commit_message: by default it says that a model was added.
        exist_ok: allow a repository that exists already.
        replace_model_card: replace the README.md of the repository.
        revision: the branch to commit to; a missing branch is created.
        create_pr: open a pull request instead of committing.

    Raises:
        OSError: if the Hub refuses, or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token, library_name="jsbert")
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=exist_ok or create_pr).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        keeps_card = not replace_model_card and api.file_exists(repo_id, FILE, revision=revision)
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or "Add a model saved by jsbert",
            revision=revision,
            create_pr=create_pr,
            ignore_patterns=[FILE] if keeps_card else None,
        )
    except (
        Exception
    ) as error:  # huggingface_hub's own, or one of the HTTP library beneath it, which varies
        raise OSError(f"{repo_id!r} was not uploaded: {type(error).__name__}: {error}") from error
    return done.pr_url if create_pr and done.pr_url else done.commit_url
