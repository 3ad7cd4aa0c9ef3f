"""Data sets of the hub in small: columns and class names as their pages show them, two rows, and their labels."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, List, Value

Row = dict[str, Any]
TEXT, ID = Value("string"), Value("int32")
NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
PAIR = {"sentence1": TEXT, "sentence2": TEXT, "idx": ID}
ENTAILS = ClassLabel(names=["entailment", "not_entailment"])
YES = ClassLabel(names=["no", "yes"])
ANSWERS = {"text": List(TEXT), "answer_start": List(ID)}
WORDS = ["Asha", "alikuja"]

# By task: the columns with their types, two rows, and the labels that heads should see.
LAYOUTS: dict[str, tuple[Row, list[Row], list[Row]]] = {}
LAYOUTS["glue_cola"] = (
    {"sentence": TEXT, "label": ClassLabel(names=["unacceptable", "acceptable"]), "idx": ID},
    [{"sentence": "a", "label": 1, "idx": 0}, {"sentence": "b", "label": 0, "idx": 1}],
    [{"acceptability": "acceptable"}, {"acceptability": "unacceptable"}],
)  # fmt: skip
LAYOUTS["glue_sst2"] = (
    {"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"]), "idx": ID},
    [{"sentence": "a ", "label": 1, "idx": 0}, {"sentence": "b ", "label": 0, "idx": 1}],
    [{"sentiment": "positive"}, {"sentiment": "negative"}],
)  # fmt: skip
LAYOUTS["glue_mrpc"] = (
    {**PAIR, "label": ClassLabel(names=["not_equivalent", "equivalent"])},
    [{"sentence1": "a", "sentence2": "b", "label": n, "idx": n} for n in (0, 1)],
    [{"paraphrase": "not_equivalent"}, {"paraphrase": "equivalent"}],
)  # fmt: skip
LAYOUTS["glue_qqp"] = (
    {"question1": TEXT, "question2": TEXT, "label": ClassLabel(names=["not_duplicate", "duplicate"]), "idx": ID},
    [{"question1": "a", "question2": "b", "label": n, "idx": n} for n in (0, 1)],
    [{"duplicate": "not_duplicate"}, {"duplicate": "duplicate"}],
)  # fmt: skip
LAYOUTS["glue_stsb"] = (
    {**PAIR, "label": Value("float32")},
    [{"sentence1": "a", "sentence2": "b", "label": label, "idx": 0} for label in (0.5, 5.0)],
    [{"similarity": 0.5}, {"similarity": 5.0}],
)  # fmt: skip
LAYOUTS["glue_mnli"] = (
    {
        "premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
        "idx": ID,
    },
    [{"premise": "a", "hypothesis": "b", "label": n, "idx": n} for n in (0, 2)],
    [{"entailment": "entailment"}, {"entailment": "contradiction"}],
)  # fmt: skip
LAYOUTS["glue_qnli"] = (
    {"question": TEXT, "sentence": TEXT, "label": ENTAILS, "idx": ID},
    [{"question": "a", "sentence": "b", "label": n, "idx": n} for n in (0, 1)],
    [{"answers": "entailment"}, {"answers": "not_entailment"}],
)  # fmt: skip
LAYOUTS["glue_rte"] = (
    {**PAIR, "label": ENTAILS},
    [{"sentence1": "a", "sentence2": "b", "label": n, "idx": n} for n in (0, 1)],
    [{"entailment": "entailment"}, {"entailment": "not_entailment"}],
)  # fmt: skip
LAYOUTS["glue_wnli"] = (
    {**PAIR, "label": ClassLabel(names=["not_entailment", "entailment"])},
    [{"sentence1": "a", "sentence2": "b", "label": n, "idx": n} for n in (0, 1)],
    [{"entailment": "not_entailment"}, {"entailment": "entailment"}],
)  # fmt: skip
LAYOUTS["conll2003"] = (
    {
        "id": TEXT, "tokens": List(TEXT), "pos_tags": List(ID), "chunk_tags": List(ID),
        "ner_tags": List(ClassLabel(names=[*NER, "B-MISC", "I-MISC"])),
    },
    [
        {"id": "0", "tokens": WORDS, "pos_tags": [0, 0], "chunk_tags": [0, 0], "ner_tags": tags}
        for tags in ([1, 0], [7, 8])
    ],
    [{"entities": ("B-PER", "O")}, {"entities": ("B-MISC", "I-MISC")}],
)  # fmt: skip
LAYOUTS["masakhaner2_hub_swa"] = (
    {"id": TEXT, "tokens": List(TEXT), "ner_tags": List(ClassLabel(names=[*NER, "B-DATE", "I-DATE"]))},
    [{"id": "0", "tokens": WORDS, "ner_tags": tags} for tags in ([1, 0], [7, 8])],
    [{"entities": ("B-PER", "O")}, {"entities": ("B-DATE", "I-DATE")}],
)  # fmt: skip
LAYOUTS["ud_english_ewt"] = (
    {
        "idx": TEXT, "text": TEXT, "tokens": List(TEXT), "lemmas": List(TEXT),
        "upos": List(ClassLabel(names=["NOUN", "PUNCT", "_"])), "xpos": List(TEXT), "feats": List(TEXT),
        "head": List(TEXT), "deprel": List(TEXT), "deps": List(TEXT), "misc": List(TEXT),
    },
    [
        {
            "idx": "1", "text": "Asha.", "tokens": ["Asha", "."], "upos": tags,
            **{name: ["_", "_"] for name in ("lemmas", "xpos", "feats", "head", "deprel", "deps", "misc")},
        }
        for tags in ([0, 1], [0, 2])
    ],
    [{"pos": ("NOUN", "PUNCT")}, {"pos": ("NOUN", "_")}],
)  # fmt: skip
LAYOUTS["ud_af_afribooms"] = LAYOUTS["ud_english_ewt"]
LAYOUTS["xnli_ar"] = (
    {"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=["entailment", "neutral", "contradiction"])},
    [{"premise": "a", "hypothesis": "b", "label": n} for n in (0, 2)],
    [{"entailment": "entailment"}, {"entailment": "contradiction"}],
)  # fmt: skip
LAYOUTS["afrisenti_hub_swa"] = (
    {"tweet": TEXT, "label": ClassLabel(names=["positive", "neutral", "negative"])},
    [{"tweet": '"a', "label": 0}, {"tweet": "#b", "label": 2}],
    [{"sentiment": "positive"}, {"sentiment": "negative"}],
)  # fmt: skip
LAYOUTS["massive_swa"] = (
    {
        "id": TEXT, "locale": TEXT, "partition": TEXT, "scenario": ClassLabel(names=["social", "alarm"]),
        "intent": ClassLabel(names=["datetime_query", "alarm_set"]), "utt": TEXT, "annot_utt": TEXT,
        "worker_id": TEXT, "slot_method": {"slot": List(TEXT), "method": List(TEXT)},
    },
    [
        {
            "id": "1", "locale": "sw-KE", "partition": "train", "scenario": n, "intent": 1 - n, "utt": "a",
            "annot_utt": "[x : a]", "worker_id": "1", "slot_method": {"slot": ["x"], "method": ["t"]},
        }
        for n in (0, 1)
    ],
    [{"scenario": "social", "intent": "alarm_set"}, {"scenario": "alarm", "intent": "datetime_query"}],
)  # fmt: skip
LAYOUTS["go_emotions"] = (
    {"text": TEXT, "labels": List(ClassLabel(names=["admiration", "anger", "neutral"])), "id": TEXT},
    [{"text": "a", "labels": [0, 1], "id": "x"}, {"text": "b", "labels": [2], "id": "y"}],
    [{"emotions": {"admiration": True, "anger": True}}, {"emotions": {"neutral": True}}],
)  # fmt: skip
LAYOUTS["clinc150"] = (
    {"text": TEXT, "intent": ClassLabel(names=["restaurant_reviews", "oos", "no"])},
    [{"text": "a", "intent": 0}, {"text": "b", "intent": 1}],
    [{"intent": "restaurant_reviews"}, {"intent": "oos"}],
)  # fmt: skip
LAYOUTS["squad"] = (
    {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS},
    [
        {
            "id": "1", "title": "t", "context": " Asha alikuja", "question": "nani?",
            "answers": {"text": ["Asha"], "answer_start": [start]},
        }
        for start in (1, -1)
    ],
    [{"answer": (("Asha", 1),)}, {"answer": (("Asha", -1),)}],
)  # fmt: skip
