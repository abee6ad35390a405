"""How much of some captions a vocabulary does not know, split by split."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.data.text.captions import captions_by_split
from selfalign_cli.data.text.coverage import Unknown, pieces_of, unknown_in
from selfalign_cli.data.text.vocab import Vocabulary, count_words


def unknown_by_split(vocabulary: Path, captions: Path) -> dict[str, Unknown]:
    """Shares of the words of captions that are unknown; the split of captions without splits is named `all`.

    Args:
        vocabulary: a vocabulary (JSON), or the folder of WordPieces.
        captions: a feature file, or captions of any kind that `build-vocab` reads.

    Raises:
        DataError: one of the two is faulty or of another kind.
    """
    by_split = {name or "all": texts for name, texts in captions_by_split(captions).items()}
    if vocabulary.is_dir():
        from selfalign_cli.data.text.wordpiece import load_tokenizer
        from selfalign_cli.data.text.wordpiece_training import count_words as count_pieces

        tokenizer = load_tokenizer(str(vocabulary))
        return {name: pieces_of(tokenizer, count_pieces(texts))[0] for name, texts in by_split.items()}
    known = Vocabulary.load(vocabulary)
    words = set(known.words)
    return {
        name: unknown_in(count_words(texts, tokenizer=known.tokenizer, lowercase=known.lowercase), words)
        for name, texts in by_split.items()
    }
