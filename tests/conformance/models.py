"""Tiny random text models saved as folders: BERT- and GPT-2-shaped, each with a tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = (
    "The quick brown fox jumps over the lazy dog. A heist film set in Los Angeles, 1995!",
    "Toy Story (1995). Animation, children's comedy. Does it hold up? It does; watch it again.",
    "Running shoes for winter: warm, light and cheap. Boots, socks and laces as well…",
)


def tiny_bert(folder: Path, seed: int = 0) -> Path:
    """Save a two-layer BERT with a WordPiece tokenizer; return its folder."""
    normalise = normalizers.BertNormalizer(lowercase=True)
    split = pre_tokenizers.BertPreTokenizer()
    words = {word for text in CORPUS for word, _ in split.pre_tokenize_str(text.lower())}
    letters = [chr(code) for code in range(33, 127)]
    # Spelled out, not trained: a trainer breaks ties by chance, and folders would differ.
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words | set(letters))]
    entries += [f"##{letter}" for letter in letters]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalise, split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    return _save(folder, transformers.BertModel(config), tokenizer, pad_token="[PAD]")


def tiny_gpt2(folder: Path, seed: int = 0) -> Path:
    """Save a two-layer GPT-2 with a byte-level BPE tokenizer; return its folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(seed)
    return _save(folder, transformers.GPT2Model(config), tokenizer, eos_token="<|endoftext|>")


def _save(
    folder: Path, model: transformers.PreTrainedModel, tokenizer: Tokenizer, **special: str
) -> Path:
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(
        folder
    )
    return folder
