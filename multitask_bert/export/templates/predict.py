"""What every head says of a text: `python predict.py TEXT [SECOND_TEXT]`; needs onnxruntime and tokenizers alone."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent
SETTINGS = json.loads((HERE / "onnx.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(HERE / "tokenizer.json"))
TOKENIZER.no_padding()
TOKENIZER.enable_truncation(SETTINGS["max_length"])
SESSION = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])


def predict(*texts: str) -> dict[str, Any]:
    """By `task/head`, what the heads over one text (two texts) predict; of a choice head, the logit of this choice."""
    if not all(isinstance(text, str) for text in texts) or len(texts) not in (1, 2):
        raise TypeError("give predict one text or a pair, as predict(a) or predict(a, b); call it once for each input")
    if all(head["num_texts"] != len(texts) for head in SETTINGS["heads"].values()):
        wrong, right = ("one text", "a pair") if len(texts) == 1 else ("a pair", "one text")
        raise ValueError(f"{wrong} was given, but every head of this model needs {right}")
    first, *second = (text.strip() for text in texts)
    tokens = TOKENIZER.encode(first, second[0] if second else None)
    given = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, "token_type_ids": tokens.type_ids}
    names = [output.name for output in SESSION.get_outputs()]
    logits = SESSION.run(None, {one.name: np.array([given[one.name]]) for one in SESSION.get_inputs()})
    return {
        name: decode(SETTINGS["heads"][name], found[0], tokens, texts[-1].strip())
        for name, found in zip(names, logits, strict=True)
        if SETTINGS["heads"][name]["num_texts"] == len(texts)
    }


def decode(head: dict[str, Any], logits: Any, tokens: Any, text: str) -> Any:
    """A prediction from logits_L, or logits_SL of heads over tokens; `text`: the last one."""
    labels, low_high = head["labels"], head["range"] or (0.0, 1.0)
    if head["type"] == "classification":
        shares = np.exp(logits - logits.max())
        return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))
    if head["type"] == "multilabel":
        shares = 1 / (1 + np.exp(-logits))
        return [name for name, share, least in zip(labels, shares, head["thresholds"], strict=True) if share >= least]
    if head["type"] == "regression":
        value = low_high[0] + float(logits[0]) * (low_high[1] - low_high[0])
        return min(max(value, low_high[0]), low_high[1]) if head["clip"] else value
    offsets = [
        (-1, -1) if hidden else at for at, hidden in zip(tokens.offsets, tokens.special_tokens_mask, strict=True)
    ]
    if head["type"] == "tagging":
        words = [match.span() for match in re.finditer(SETTINGS["word_pattern"], text)]
        tags, before = [], -1
        for (begin, end), index in zip(words, starts(offsets, words), strict=False):
            tag = labels[logits[index].argmax()]  # of letters without spaces, several may share a token: B, I, I
            tags.append((text[begin:end], tag.replace("B-", "I-", 1) if index == before else tag))
            before = index
        return tags
    if head["type"] == "span":
        second = [i for i, sequence in enumerate(tokens.sequence_ids) if sequence == 1 and offsets[i] != (-1, -1)]
        spans = [(i, j) for i in second for j in second if i <= j < i + head["max_answer_length"]]
        first, last = max(spans, key=lambda span: float(logits[span[0], 0] + logits[span[1], 1]), default=(0, 0))
        margin = float(logits[first, 0] + logits[last, 1] - logits[0].sum())
        is_answer = bool(spans) and (head["threshold"] is None or margin > head["threshold"])
        return text[offsets[first][0] : offsets[last][1]].strip() if is_answer else None
    return logits.tolist()


def starts(offsets: list[tuple[int, int]], words: list[tuple[int, int]]) -> Any:
    """The index of each word's first token, up to the first word that was truncated away."""
    index = last = 0
    for begin, end in words:
        while index < len(offsets) and (
            offsets[index][1] < begin or (offsets[index][1] == begin and offsets[index][0] < max(begin - 1, last))
        ):
            index += 1
        if index == len(offsets):
            return
        yield index
        last = end


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        print(json.dumps(predict(*sys.argv[1:]), ensure_ascii=False, indent=1))
    except ValueError as error:
        sys.exit(f"error: {error}")
