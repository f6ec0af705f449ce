"""Downloads and unpacks an npm package by name and version, without installing it."""

import subprocess
import tarfile
from pathlib import Path


def unpack(name: str, cache: Path) -> Path:
    """Folder of the unpacked package `name@version` under `cache`; downloaded once."""
    folder = cache / name.lstrip("@").replace("/", "-")
    if (folder / "package.json").exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "pack", "--silent", name], cwd=cache, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"npm pack {name} failed: {done.stderr.strip() or 'no message'}")
    archive = cache / done.stdout.strip().splitlines()[-1]
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            # Every npm archive has one top folder, mostly named "package".
            inner = Path(*Path(member.name).parts[1:])
            if member.isfile() and inner.parts:
                member.name = str(inner)
                tar.extract(member, folder, filter="data")
    archive.unlink()
    return folder
