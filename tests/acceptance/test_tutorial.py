"""docs/tutorial.md, played from its first line to its last: each command ends as the page says."""

from __future__ import annotations

from pathlib import Path

from tests.support.played_pages import blocks, play, promised


def script() -> str:
    """All that a reader types: shell blocks, and the manifest where the page has it saved."""
    pieces = []
    for language, body in blocks("tutorial.md"):
        if language == "yaml":
            pieces.append(f"cat > clients.yaml <<'END'\n{body}END\n")
        elif language == "sh":
            pieces.append(body)
    return "\n".join(pieces)


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    played = play(script(), place)
    assert played.codes == promised(script()), played.stdout + played.stderr
    assert "client-b: 🔎 1 change found and left (1 drift): queue/Sales update (drift)" in played.stderr
    assert "+  - {instance: client-a" in played.stdout
