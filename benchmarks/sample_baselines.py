"""What the embedded sample corpora give away to methods without an encoder: the floors to beat.

    python benchmarks/sample_baselines.py

`sentiment`: TF-IDF of words and word pairs with logistic regression. `ner`: each word gets its most frequent tag.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

from seqeval.metrics import f1_score as entity_f1_score
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

from multitask_bert.data.samples.corpora import NerExample, TextExample, ner_corpus, sentiment_corpus


def main() -> None:
    ner, sentiment = ner_corpus(), sentiment_corpus()
    print(f"{'corpus':<10} {'baseline':<32} {'split':<5} {'score':<10} {'value':>6}")
    for split in ("dev", "test"):
        scores = bag_of_words_scores(sentiment["train"], sentiment[split])
        for name, value in scores.items():
            print(f"{'sentiment':<10} {'TF-IDF + logistic regression':<32} {split:<5} {name:<10} {value:>6.3f}")
    for split in ("dev", "test"):
        value = dictionary_tagger_f1(ner["train"], ner[split])
        print(f"{'ner':<10} {'dictionary of train tags':<32} {split:<5} {'entity F1':<10} {value:>6.3f}")


def bag_of_words_scores(train: list[TextExample], test: list[TextExample]) -> dict[str, float]:
    """Macro F1 and accuracy of logistic regression on words and word pairs."""
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    classifier.fit([text for text, _ in train], [label for _, label in train])
    predicted, gold = classifier.predict([text for text, _ in test]), [label for _, label in test]
    macro_f1, accuracy = f1_score(gold, predicted, average="macro"), accuracy_score(gold, predicted)
    return {"macro F1": float(macro_f1), "accuracy": float(accuracy)}


def dictionary_tagger_f1(train: list[NerExample], test: list[NerExample]) -> float:
    """Entity F1 where each word, lower-cased, gets its most frequent tag in train, and an unknown word gets O."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            counts[word.lower()][tag] += 1
    best = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in counts.items()}
    predicted = [[best.get(word.lower(), "O") for word in words] for words, _ in test]
    return float(entity_f1_score([tags for _, tags in test], predicted))


if __name__ == "__main__":
    main()
