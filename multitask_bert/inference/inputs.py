"""Inputs to predict for: a text, two texts, words, a question about a context, or a text with choices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from multitask_bert.data.readers.text import is_blank
from multitask_bert.errors import InputError
from multitask_bert.records import Example

RawInput: TypeAlias = "str | tuple[str, str] | Mapping[str, Any] | Input"

# By type of input: the keys of its texts. An input has the first type of which it has all keys.
KEYS: dict[str, tuple[str, ...]] = {
    "words": ("words",),
    "choices": ("text", "choices"),
    "question": ("question", "context"),
    "pair": ("text", "text_pair"),
    "text": ("text",),
}
LISTS = ("words", "choices")
CAN_BE_GIVEN = (
    "give a text, a pair of texts, or an object with the keys text; text and text_pair; words; question and context; "
    "or text and choices"
)


@dataclass(frozen=True, slots=True)
class Input:
    """A checked input."""

    input_type: str  # one of KEYS
    example: Example  # without labels
    shown: Mapping[str, Any]  # the input by its keys, as the output repeats it before the predictions
    is_exact: bool = False  # white space at the text's ends is kept, as in training


def read_input(raw: RawInput, where: str) -> Input:
    """Check an input and find its type. `where`: file and line or the like, for errors.

    Raises:
        InputError: it has none of the types.
    """
    if isinstance(raw, Input):
        return raw
    if isinstance(raw, str):
        given: Mapping[str, Any] = {"text": raw}
    elif isinstance(raw, tuple) and len(raw) == 2:
        given = {"text": raw[0], "text_pair": raw[1]}
    elif isinstance(raw, Mapping):
        given = _without_predictions(raw)
    else:
        raise InputError(f"{where}: {_brief(raw)} cannot be predicted for; {CAN_BE_GIVEN}")
    whole = (input_type for input_type, keys in KEYS.items() if all(not is_missing(given.get(key)) for key in keys))
    with_gaps = (input_type for input_type, keys in KEYS.items() if all(key in given for key in keys))
    input_type = next(whole, None) or next(with_gaps, None)
    if input_type is None:
        raise InputError(f"{where}: found the keys {', '.join(map(str, given)) or 'none'}; {CAN_BE_GIVEN}")
    parts = [_checked(given[key], key, where) for key in KEYS[input_type]]
    if input_type == "words":
        words = tuple(parts[0])
        joined = " ".join(words)
        if not is_missing(text := given.get("text")) and text != joined:
            raise InputError(f"{where}: `text` is not the words joined by spaces; give one of the two")
        shown = {"text": joined, **given}
        return Input(input_type, Example(where, joined, {}, words=words), shown | {"text": joined})
    if input_type == "choices":
        return Input(input_type, Example(where, parts[0], {}, choices=tuple(parts[1])), given)
    return Input(input_type, Example(where, parts[0], {}, text_pair=parts[1] if len(parts) == 2 else None), given)


def is_empty(example: Example) -> bool:
    """Whether it, or one of its texts, is empty, or there is nothing to choose from."""
    texts = [example.text, *([""] if example.choices == () else example.choices or ())]
    texts += [] if example.text_pair is None else [example.text_pair]
    return not all(text.strip() for text in texts)


def is_missing(value: Any) -> bool:
    """Whether it is null or NaN, which tools write where there is no text; it is read as an empty text."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def lacks_text(item: Input, input_types: Iterable[str]) -> bool:
    """Whether it would be of one of these types if a missing text were there."""
    found = [
        [item.shown[key] for key in KEYS[input_type]]
        for input_type in input_types
        if item.shown.keys() >= set(KEYS[input_type])
    ]
    return any(any(map(is_missing, values)) for values in found)


def _without_predictions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the keys of an earlier output, `predictions` and its `truncated`; a `truncated` of the user's own stays."""
    is_marked = "predictions" in given and given.get("truncated") is True
    ours = ("predictions", "truncated") if is_marked else ("predictions",)
    return {key: value for key, value in given.items() if key not in ours}


def _checked(value: Any, key: str, where: str) -> Any:
    """The value, if it is a string, or for some keys a list of strings, in valid Unicode; empty if it is missing."""
    is_list = key in LISTS
    if is_missing(value):
        return [] if is_list else ""
    if key == "choices" and isinstance(value, list | tuple):
        value = ["" if is_missing(text) else text for text in value]
    if is_list and (isinstance(value, str) or not isinstance(value, list | tuple)):
        raise InputError(f"{where}: `{key}` must be a list of strings, but is {_brief(value)}")
    texts = value if is_list else [value]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                f"{where}: `{key}` must {'hold strings' if is_list else 'be a string'}, not {_brief(text)}"
            )
        if key == "words" and is_blank(text):
            raise InputError(f"{where}: `words` has an empty word; leave it out")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"U+{ord(text[error.start]):04X}"
            raise InputError(f"{where}: `{key}` holds half a surrogate pair ({found}); correct the text") from error
    return value


def _brief(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
