"""Parameter names of the published programs (MODELS.md section 8) and ours, as prefix rules.

A rule (theirs, ours) renames `theirs.rest` to `ours.rest`; the longest matching rule wins.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

CONTEXT_HEAD: Rules = (
    ("ctx_fc", "fc"),
    ("ctx_fc_bn1", "guide_norm"),
    ("ctx_fc_bn2", "local_norm"),
    ("fusion_fn.0", "gate.0"),
    ("fusion_fn.2", "gate.2"),
)
VSRN_IMAGE: Rules = (
    ("fc", "fc"),
    ("img_rnn", "gru"),
    ("bn", "norm"),
    *(
        (f"Rs_GCN_{layer}.{theirs}", f"graph.{layer - 1}.{ours}")
        for layer in range(1, 5)
        for theirs, ours in (("g", "g"), ("theta", "theta"), ("phi", "phi"), ("W.0", "out"), ("W.1", "norm"))
    ),
)
VSRN_TEXT: Rules = (("embed", "embed"), ("local_fc", "word_map"), ("rnn", "gru"))


def _gated_attention(layers: int = 4) -> Rules:
    """Rules of CAMERA's attention, for as many layers as were ever used."""
    parts = (
        ("linears.0", "query"),
        ("linears.1", "key"),
        ("linears.2", "value"),
        ("fc_q", "query_gate"),
        ("fc_k", "key_gate"),
        ("fc_g", "gate"),
    )
    return tuple(
        rule
        for layer in range(layers)
        for rule in (
            *((f"agsa.att_layers.{layer}.{theirs}", f"attention.layers.{layer}.{ours}") for theirs, ours in parts),
            (f"agsa.bns.{layer}", f"attention.norms.{layer}"),
        )
    )


CAMERA_IMAGE: Rules = (
    ("fc", "fc"),
    ("position_enc", "box_gate"),
    *_gated_attention(),
    ("mvs.convs_dilate", "summary.convs"),
    ("mvs.convs_fc", "summary.out"),
)
CAMERA_TEXT: Rules = (
    ("bert", "bert"),
    ("mapping", "word_map"),
    *_gated_attention(),
    ("fc1", "feed_forward.0"),
    ("fc2", "feed_forward.3"),
    ("bn", "norm"),
)
VSE_INFTY_IMAGE: Rules = (
    ("fc", "fc"),
    ("mlp.layers.0", "hidden"),
    ("mlp.bns.0", "norm"),
    ("mlp.layers.1", "out"),
    ("gpool", "pool"),
)
VSE_INFTY_TEXT: Rules = (("embed", "embed"), ("rnn", "gru"), ("gpool", "pool"))
VSE_INFTY_BERT_TEXT: Rules = (("bert", "bert"), ("linear", "word_map"), ("gpool", "pool"))
UNUSED = ("mlp.bns.1.",)
"""Weights of VSE∞ that its program never uses (G18)."""
HOSTS: Mapping[str, tuple[Rules, Rules]] = {
    "vsrn": (VSRN_IMAGE, VSRN_TEXT),
    "camera": (CAMERA_IMAGE, CAMERA_TEXT),
    "vse_infty": (VSE_INFTY_IMAGE, VSE_INFTY_TEXT),
    "vse_infty_bert": (VSE_INFTY_IMAGE, VSE_INFTY_BERT_TEXT),
}
"""Rules of the image encoder and of the text encoder of each host."""
CAPTIONER: Rules = (
    ("encoder.vid2hid", "region_map"),
    ("encoder.rnn", "encoder"),
    ("decoder.embedding", "embed"),
    ("decoder.attention.linear1", "attention"),
    ("decoder.attention.linear2", "attention_score"),
    *((f"decoder.rnn.{name}_l0", f"decoder.{name}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    ("decoder.out", "out"),
)
PROTOTYPES: Rules = (("v_prototypes.weight", "prototypes"),)


def side_rules(host: Rules, *, side: str) -> Rules:
    """Rules of one published encoder, which holds host and context head in one state: side is image or text."""
    return (
        *((theirs, f"{side}.{ours}") for theirs, ours in host),
        *((theirs, f"selfalign.{side}_head.{ours}") for theirs, ours in CONTEXT_HEAD),
    )


def rename(name: str, rules: Rules) -> str | None:
    """Our name for a published one, or None when no rule covers it."""
    matching = [(theirs, ours) for theirs, ours in rules if name == theirs or name.startswith(theirs + ".")]
    if not matching:
        return None
    theirs, ours = max(matching, key=lambda rule: len(rule[0]))
    return ours + name[len(theirs) :]


def rename_state(state: Mapping[str, Tensor], rules: Rules) -> tuple[dict[str, Tensor], list[str]]:
    """Rename a published state dict; 1x1 convolutions (D, D, 1) of the region graph become linear maps (D, D).

    Returns:
        The renamed state, and the published names that no rule covers.
    """
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, value in state.items():
        ours = rename(name, rules)
        if ours is None:
            unknown.append(name)
        elif name.startswith("Rs_GCN") and value.dim() == 3:
            renamed[ours] = value.squeeze(-1)
        else:
            renamed[ours] = value
    return renamed, unknown
