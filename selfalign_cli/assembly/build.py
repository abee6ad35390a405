"""The retrieval model that a recipe describes."""

from __future__ import annotations

from torch import nn

from selfalign_cli.assembly.options import options_of
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.retrieval import RetrievalModel
from selfalign_cli.models.selfalign import SelfAlign
from selfalign_cli.recipe.schema import Recipe, VsrnSection


def build_model(recipe: Recipe, *, feature_dim: int, vocab_size: int | None, bert: nn.Module | None) -> RetrievalModel:
    """Construct the retrieval model that a recipe describes, with fresh weights.

    Args:
        recipe: the recipe.
        feature_dim: F of the feature file.
        vocab_size: number of words, for a host with a word table (VSRN).
        bert: token encoder, for a host on top of one (CAMERA).
    """
    image: nn.Module
    text: nn.Module
    if isinstance(recipe.model, VsrnSection):
        assert vocab_size is not None
        of_image, of_text = options_of(recipe.model, VsrnImageEncoder, VsrnTextEncoder, elsewhere=("name",))
        image = VsrnImageEncoder(feature_dim, **of_image)
        text = VsrnTextEncoder(vocab_size, **of_text, for_selfalign=recipe.selfalign.enabled)
    else:
        # Only here: CAMERA brings transformers along, which takes seconds to import.
        from selfalign_cli.models.hosts.camera import CameraImageEncoder, CameraTextEncoder

        assert bert is not None
        elsewhere = ("name", "bert")
        of_image, of_text = options_of(recipe.model, CameraImageEncoder, CameraTextEncoder, elsewhere=elsewhere)
        image = CameraImageEncoder(feature_dim, **of_image)
        text = CameraTextEncoder(
            bert,
            **of_text,
            **recipe.padding.model_dump(),
            for_selfalign=recipe.selfalign.enabled,
        )
    return RetrievalModel(image, text, _build_selfalign(recipe))


def _build_selfalign(recipe: Recipe) -> SelfAlign | None:
    section = recipe.selfalign
    if not section.enabled or not (section.context_embedding or recipe.loss.context.enabled):
        return None
    (options,) = options_of(section, SelfAlign, elsewhere=("enabled",))
    return SelfAlign(
        recipe.model.embed_dim,
        **options,
        context_first=isinstance(recipe.model, VsrnSection),
        masked_means=recipe.padding.masked_means,
        masked_batchnorm=recipe.padding.masked_batchnorm,
        masked_keys=recipe.padding.masked_attention,
    )
