"""A tiny BERT with random weights and MiniLM's tokenizer, written to a folder: what `peers.py --quick` runs on.

python benchmarks/tiny_model.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

from transformers import AutoTokenizer, BertConfig, BertModel

from benchmarks import recipe


def main() -> None:
    folder = sys.argv[1]
    tokenizer = AutoTokenizer.from_pretrained(recipe.model_folder(recipe.MODEL))
    shape = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
