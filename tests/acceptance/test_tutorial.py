"""docs/tutorial.md, played from its first line to its last: each command ends as the page says."""

from __future__ import annotations

from pathlib import Path

from tests.support.played_pages import blocks, patient, play, promised
from tests.support.postgres_server import free_port


def script() -> str:
    """Returns all that a reader types: shell blocks, and the manifest at the point of saving it."""
    pieces = []
    for language, body in blocks("tutorial.md"):
        if language == "yaml":
            pieces.append(f"cat > clients.yaml <<'END'\n{body}END\n")
        elif language == "sh":
            pieces.append(body)
    return "\n".join(pieces)


def shown_post() -> str:
    """Returns what the page shows of the receiver's output: the beginning of one line."""
    (post,) = [body for language, body in blocks("tutorial.md") if language == "text" and body.startswith('{"text"')]
    return post.partition(" …")[0]


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    typed = script().replace("9000", str(free_port()))
    played = play(patient(typed, "clients.yaml", "--limit", "client-b"), place)
    assert played.codes == promised(typed), played.stdout + played.stderr
    assert shown_post() in played.stdout
    assert "+  - {instance: client-a" in played.stdout
