"""Finds the clips in a folder of files, with their signers and words: by the levels of folders, or by a layout."""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data_utils.errors import DataError
from data_utils.importing.importing import check_name
from data_utils.importing.layout import Layout
from data_utils.importing.record import ListedClip, Notify
from data_utils.importing.scanning import Found, Kind
from data_utils.wording import counted

_EXAMPLES = 10
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def clips_by_folders(
    source: Path, found: Sequence[Found], levels: Sequence[str], signer: str | None, notify: Notify
) -> list[ListedClip]:
    """The clips in folders of signers and words, or of words only if the signer is given.

    A folder without files is no word and no signer. It is a clip, without frames, if another clip of its word has some.

    Args:
        source: the folder.
        found: what is in it.
        levels: what folders and files stand for: `signer`, `word`, and perhaps `clip` and `frame`.
        signer: who signs in all clips; then the level of signers is left out.
        notify: receives lines about what was found and left out.

    Raises:
        DataError: the folders have other levels.
    """
    levels = levels[signer is not None :]
    frames = levels[-1] == "frame"
    holding = [folder for folder in found if folder.files]
    depth = usual_depth(found)
    usual = [folder for folder in holding if len(folder.names) == depth]
    if depth != len(levels) - 1:
        raise _other_levels(source, usual, levels, signer)
    _check_levels(source, [folder for folder in holding if len(folder.names) != depth], len(usual), levels)
    if signer is None:
        _check_no_splits(source, holding, levels)
    word_level = levels.index("word")
    words = {folder.names[: word_level + 1] for folder in holding}
    folders = [one for one in found if len(one.names) == depth and one.names[: word_level + 1] in words]
    _tell_left_out(found, folders, notify)
    paths = (path for folder in folders for path in ([folder.names] if frames else _files(source, folder)))
    kind = found[0].kind
    clips = [_clip(_fields(path, levels, is_file=not frames), signer, "/".join(path), source, kind) for path in paths]
    notify(f"files: SRC/{_shown(levels, found)}, one {'frame' if frames else 'clip'} per file; {_example(clips[0])}")
    return clips


def usual_depth(found: Iterable[Found]) -> int:
    """In how many folders, one in another, most of the folders with files are."""
    depths = Counter(len(folder.names) for folder in found if folder.files)
    return max(depths, key=lambda depth: (depths[depth], -depth))


def clips_by_layout(
    source: Path, found: Sequence[Found], layout: Layout, signer: str | None, notify: Notify
) -> list[ListedClip]:
    """The clips whose paths have a layout. Other files are left out, and the user is told.

    Raises:
        DataError: no path has the layout, or nothing tells the signer.
    """
    if (signer is None) != layout.has("signer"):
        what = "--layout does not tell the signer" if signer is None else "--signer and --layout both tell the signer"
        hint = "put {signer} into it, or add --signer NAME" if signer is None else "leave out --signer, or {signer}"
        raise DataError(what, got=layout.text, hint=hint)
    clips: dict[tuple[str, ...], ListedClip] = {}
    others: list[str] = []
    for folder in (folder for folder in found if folder.files):
        paths = [(*folder.names, folder.first)] if layout.frames_fill_folders else _files(source, folder)
        for path in paths:
            fields = layout.fields("/".join(path))
            if fields is None:
                others.append("/".join(path))
                continue
            kept = path[:-1] if layout.frames_fill_folders else path
            key = (*folder.names, *layout.clip_key(fields)) if layout.frames else path
            clips.setdefault(key, _clip(fields, signer, "/".join(kept), source, folder.kind))
    if not clips:
        raise DataError(
            "no file has the layout",
            file=source,
            got="\n".join(_examples(others)),
            expected=layout.text,
            hint="fields stand in braces, all else is taken literally: {signer} {word} {clip} {session} {frame} {any}",
        )
    notify(f"files: {layout.text}; {_example(next(iter(clips.values())))}")
    if others:
        notify(f"left out {counted(len(others), 'path')} unlike {layout.text}:")
        for line in _examples(others):
            notify(f"  {line}")
    return list(clips.values())


def without_repeats(clips: Iterable[ListedClip], source: Path) -> list[ListedClip]:
    """The clips, after it was checked that no two of a signer have the same name.

    Raises:
        DataError: two have.
    """
    known: dict[tuple[str, str], ListedClip] = {}
    for clip in clips:
        if (clip.signer, clip.name) in known:
            got = f"{known[clip.signer, clip.name].file} and {clip.file}"
            hint = "rename one of them; in a --layout, {any} or {session} can tell them apart"
            raise DataError("two clips would get the same name", file=source, got=got, hint=hint)
        known[clip.signer, clip.name] = clip
    return list(known.values())


def _clip(fields: Mapping[str, str], signer: str | None, file: str, source: Path, kind: Kind) -> ListedClip:
    fields = {name: text.strip() for name, text in fields.items()}
    clip = fields.get("clip", unicodedata.normalize("NFC", PurePosixPath(file).stem.strip()) if kind.name_clips else "0")
    where: Path | str = source / file if signer is None else "--signer"
    signer = unicodedata.normalize("NFC", signer.strip()) if signer is not None else fields["signer"]
    session = fields.get("session", "")
    name = "__".join(filter(None, (fields["word"], session, fields.get("any"), clip)))
    check_name(signer, "a signer", file=where)
    check_name(name, "a clip", file=source / file, may_end_in_swap=True)
    return ListedClip(signer, name, fields["word"], file, session)


def _example(clip: ListedClip) -> str:
    session = f", session {clip.session}" if clip.session else ""
    return f"{clip.file} is signer {clip.signer}, word {clip.word}{session}, clip {clip.name}"


def _files(source: Path, folder: Found) -> Iterator[tuple[str, ...]]:
    """The paths of a folder's files within the source."""
    return ((*folder.names, name) for name in folder.file_names(source))


def _fields(path: Sequence[str], levels: Sequence[str], *, is_file: bool) -> dict[str, str]:
    """The names of a path by their levels, in Unicode form NFC; of a file's name without its ending."""
    names = [*path[:-1], PurePosixPath(path[-1]).stem if is_file else path[-1]]
    return {level: unicodedata.normalize("NFC", name) for level, name in zip(levels, names, strict=False)}


def _other_levels(source: Path, examples: Sequence[Found], levels: Sequence[str], signer: str | None) -> DataError:
    """The error for folders that are not the levels which were expected."""
    names, kind = examples[0].names, "frame" if levels[-1] == "frame" else "clip"
    ending = examples[0].kind.suffixes[0]
    too_few = len(levels) - 1 - len(names)
    usual = f"SRC/{_shown(levels, examples)}"
    frame = "" if kind == "clip" else "/{frame}" if names else "_{frame}"
    pattern = f"--layout '{_layout_of(len(names) - frame.count('/'), signer)}{frame}{ending}'"
    one_top = too_few < 0 and len({one.names[0] for one in examples}) == 1
    inside = f"name a folder inside, such as {source.joinpath(*names[:1])}"
    if not source.is_dir():  # an archive
        fields = (f"{{{level}}}" for level in levels)
        inside = f"--layout {shlex.quote('/'.join((*names[:1], *['{any}'] * (-too_few - 1), *fields)) + ending)}"
    if signer is None and too_few == 1:
        what = "the level of signers is missing"
        usual += f"; or with --signer NAME SRC/{_shown(levels[1:], examples)}"
        hint = f"add --signer NAME if one person signs in all clips, or describe the paths, such as {pattern}"
        if kind == "frame":
            hint += f"; --layout '{{signer}}/{{word}}/{{clip}}{ending}' if each file is a clip of one frame"
    elif signer is not None and too_few == -1:
        what, hint = "there is a level too many for --signer", "leave out --signer if the top folders are signers"
        if one_top:
            hint += f", else {inside}"
    elif one_top:
        what, hint = "there are levels too many", inside
    else:
        missing = " and ".join(f"{level}s" for level in levels[:too_few])
        what = f"the level of {missing} is missing" if too_few == 1 else f"the levels of {missing} are missing"
        what = "there are levels too many" if too_few < 0 else what
        hint = f"describe the paths, such as {pattern}, with {{any}} for what does not matter"
        if not names and kind == "clip" and signer is None:
            hint = f"describe the names, such as {pattern}, or --layout '{_layout_of(0, 'me')}{ending}' --signer NAME"
        elif kind == "frame" and len(names) == 1:
            hint = f"--layout '{{word}}/{{clip}}{ending}' --signer NAME if each file is a clip of one frame"
    got = f"{_first_file(examples[0])}, a file of one {kind}"
    return DataError(f"the folders have the wrong layout: {what}", file=source, got=got, expected=usual, hint=hint)


def _layout_of(depth: int, signer: str | None) -> str:
    """A layout for files that are in so many folders, one in another, without an ending."""
    usual: tuple[str, ...]
    if signer is None:
        usual = ("{word}_{signer}_{clip}", "{word}/{signer}_{clip}", "{signer}/{word}/{clip}")
    else:
        usual = ("{word}_{clip}", "{word}/{clip}")
    return "{any}/" * (depth - len(usual) + 1) + usual[min(depth, len(usual) - 1)]


def _check_levels(source: Path, strays: Sequence[Found], others: int, levels: Sequence[str]) -> None:
    """Checks that no files lie elsewhere.

    Raises:
        DataError: some do.
    """
    if strays:
        raise DataError(
            f"{strays[0].kind.noun}s are at different levels of folders",
            file=source,
            got="\n".join(_examples([_first_file(folder) for folder in strays])),
            expected=f"SRC/{_shown(levels, strays)}, as in {counted(others, 'other folder')}",
            hint="move them elsewhere, or describe the paths that are meant with --layout",
        )


def _check_no_splits(source: Path, holding: Sequence[Found], levels: Sequence[str]) -> None:
    """Checks that the folders at the top may be signers.

    Raises:
        DataError: they are named train, test and the like.
    """
    tops = {folder.names[0] for folder in holding}
    if {name.lower() for name in tops} <= _SPLITS:
        pattern = "/".join(f"{{{level}}}" for level in ("any", *levels[1:])) + holding[0].kind.suffixes[0]
        raise DataError(
            "the folders at the top are named like parts of a split, not like signers",
            file=source,
            got=", ".join(sorted(tops)),
            expected=f"SRC/{_shown(levels, holding)}",
            hint=f"--layout '{pattern}' --signer NAME if one person signs in all clips",
        )


def _tell_left_out(found: Sequence[Found], folders: Sequence[Found], notify: Notify) -> None:
    """Tells which folders hold files of other kinds only."""
    used = {folder.names[:depth] for folder in folders for depth in range(len(folder.names) + 1)}
    tops = set()
    for folder in found:
        if folder.others and folder.names not in used:
            depth = next(depth for depth in range(1, len(folder.names) + 1) if folder.names[:depth] not in used)
            tops.add("/".join(folder.names[:depth]))
    if tops:
        notify(f"left out {counted(len(tops), 'folder')} without {found[0].kind.noun}s: {', '.join(_examples(tops))}")


def _first_file(folder: Found) -> str:
    return "/".join((*folder.names, folder.first))


def _shown(levels: Sequence[str], found: Sequence[Found]) -> str:
    return "/".join(f"<{level}>" for level in levels) + found[0].kind.suffixes[0]


def _examples(names: Collection[str]) -> list[str]:
    """A few names, and how many there are."""
    lines = sorted(names)[:_EXAMPLES]
    return [*lines, f"... {len(names):,} in total"] if len(names) > _EXAMPLES else lines
