"""Which files a watch looks at: those below a path, and none that a link leads out to."""

from __future__ import annotations

from pathlib import Path

from reconciler.watch.files import manifest_files, scan_files


def test_links_out_and_around_are_not_walked(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.yaml", "sub/B.YAML", "clients.csv"):
        (folder / name).write_text("x")
    (folder / "all").symlink_to("/")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "other").symlink_to(folder / "sub")
    found = {str(Path(path).relative_to(folder)) for path in manifest_files([str(folder)])}
    assert {"a.yaml", "sub/B.YAML"} <= found <= {"a.yaml", "sub/B.YAML", "other/B.YAML"}
    seen = {Path(entry[0]).name for entry in scan_files([str(folder)])}
    assert seen == {"a.yaml", "B.YAML", "clients.csv"}
