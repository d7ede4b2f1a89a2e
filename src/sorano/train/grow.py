"""Begin from the weights of a smaller model, or of the same one: what it has learned is the start, not noise.

`grow_*` copies a source network into a freshly initialised one that may have more: more pixels to a patch and more
latent channels in the autoencoder, more channels and blocks in the transformer, more layers in the text encoder. At the
start the grown networks compute what the source does: the autoencoder codes a video of twice the size as the source
codes its average over squares of 2 x 2 pixels, new blocks add nothing, and new channels are not looked at (in the
spirit of Net2Net, Chen et al. 2016, arXiv:1511.05641). Widths must be equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sorano.errors import RequestError
from sorano.models.wan.text_encoder import TextEncoder, Tokenizer
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder

LOUD = 12.0  # times a fresh layer's weights, for new latent channels: means well above their noise, or they stay unused
QUIET = -6.0  # log variance of a new latent channel: little noise beside its means, so that the decoder looks at it


@torch.no_grad()
def grow_autoencoder(vae: VideoAutoencoder, source: VideoAutoencoder, *, fresh: float = 0.0) -> None:
    """Makes `vae` code a video as `source` codes its reduction; new latent channels start as random projections.

    `fresh` is the share of a freshly initialised first layer that is added to the encoder's: without it a grown encoder
    sees averages of its squares of pixels only, and new channels repeat what the others say. Raises RequestError where
    the two differ in more than the patch and the number of latent channels.
    """
    ours, theirs = vae.config, source.config
    same = ("base_dim", "decoder_base_dim", "dim_mult", "num_res_blocks", "temperal_downsample", "is_residual")
    _require_same(ours, theirs, same)
    big, small = ours.patch_size or 1, theirs.patch_size or 1
    if big % small or ours.z_dim < theirs.z_dim:
        raise RequestError("the source's autoencoder has another patch or more channels", "choose another folder")
    z, z0 = ours.z_dim, theirs.z_dim
    pixel_S = _same_pixel(big, small)
    both = torch.cat([torch.arange(z0), z + torch.arange(z0)])  # means and log variances
    state = dict(source.state_dict())

    averaging = state["encoder.conv_in.weight"][:, pixel_S] / (big // small) ** 2
    state["encoder.conv_in.weight"] = averaging + fresh * vae.encoder.conv_in.weight.to(averaging)
    for kind in ("weight", "bias"):
        state[f"decoder.conv_out.{kind}"] = state[f"decoder.conv_out.{kind}"][pixel_S]
    if z > z0:
        initial = vae.state_dict()
        for kind in ("weight", "bias"):
            grown = initial[f"encoder.conv_out.{kind}"].clone()
            grown[:z] *= LOUD
            grown[z:] = QUIET if kind == "bias" else 0.0
            grown[both] = state[f"encoder.conv_out.{kind}"].to(grown)
            state[f"encoder.conv_out.{kind}"] = grown
        for name, index in (("quant_conv", both), ("post_quant_conv", both[:z0])):
            weight = torch.eye(len(initial[f"{name}.bias"]))[..., None, None, None]
            weight[index[:, None], index] = state[f"{name}.weight"].to(weight)
            bias = torch.zeros(len(weight))
            bias[index] = state[f"{name}.bias"].to(bias)
            state |= {f"{name}.weight": weight, f"{name}.bias": bias}
        grown = initial["decoder.conv_in.weight"].clone()
        grown[:, :z0] = state["decoder.conv_in.weight"].to(grown)
        state["decoder.conv_in.weight"] = grown
    vae.load_state_dict(state)
    mean, std = list(theirs.latents_mean), list(theirs.latents_std)
    vae.set_latent_statistics(mean + [0.0] * (z - z0), std + [1.0] * (z - z0))


def _same_pixel(big: int, small: int) -> Tensor:
    """For each channel of patches of `big` pixels, the channel of patches of `small` that holds the same place.

    Channels are ordered as diffusers orders them: colour, column, row.
    """
    factor = big // small
    color, column, row = torch.meshgrid(torch.arange(3), torch.arange(big), torch.arange(big), indexing="ij")
    return ((color * small + column // factor) * small + row // factor).flatten()


@torch.no_grad()
def grow_transformer(model: VideoTransformer, source: VideoTransformer) -> None:
    """Makes `model` predict the source's velocity of the channels that both have, and zero for new ones.

    New blocks are spread evenly among the source's. Raises RequestError where the two differ in width.
    """
    ours, theirs = model.config, source.config
    _require_same(ours, theirs, ("width", "num_attention_heads", "ffn_dim", "text_dim", "freq_dim", "patch_size"))
    c, c0 = ours.out_channels, theirs.out_channels
    if ours.num_layers < theirs.num_layers or c < c0 or ours.in_channels - c != theirs.in_channels - c0:
        raise RequestError("the source's transformer has more than the recipe's", "choose another folder")
    state = dict(source.state_dict())
    places = block_places(theirs.num_layers, ours.num_layers)
    grown = {name: value for name, value in state.items() if not name.startswith("blocks.")}
    for old, new in enumerate(places):
        head = f"blocks.{old}."
        grown |= {f"blocks.{new}.{name[len(head) :]}": value for name, value in state.items() if name.startswith(head)}
    fresh = model.state_dict()
    grown = {name: grown.get(name, value) for name, value in fresh.items()}
    if c > c0:
        weight = torch.zeros_like(fresh["patch_embedding.weight"])
        weight[:, :c0] = state["patch_embedding.weight"].to(weight)
        grown["patch_embedding.weight"] = weight
        for kind in ("weight", "bias"):  # rows are ordered by place in the patch, then by channel
            by_place = torch.zeros_like(fresh[f"proj_out.{kind}"]).unflatten(0, (-1, c))
            by_place[:, :c0] = state[f"proj_out.{kind}"].unflatten(0, (-1, c0)).to(by_place)
            grown[f"proj_out.{kind}"] = by_place.flatten(0, 1)
    model.load_state_dict(grown)
    for index, block in enumerate(model.blocks):
        if index not in places:
            for name, layer in block.named_modules():
                if name in ("attn1.to_out.0", "attn2.to_out.0", "ffn.net.2"):
                    _silence(layer)


def block_places(old: int, new: int) -> list[int]:
    """Where each of `old` blocks goes among `new`: in order, the new ones spread evenly behind them."""
    return [index * new // old for index in range(old)]


@torch.no_grad()
def grow_text_encoder(
    model: TextEncoder, source: TextEncoder, tokenizer: Tokenizer, source_tokenizer: Tokenizer
) -> None:
    """Makes `model` encode as the source does; new layers follow its own, and new words start at random."""
    _require_same(model.config, source.config, ("d_model", "d_kv", "d_ff", "num_heads"))
    old = source.config.num_layers
    if model.config.num_layers < old or model.config.vocab_size != source.config.vocab_size:
        raise RequestError("the source's text encoder has more layers or another vocabulary", "choose another folder")
    theirs = source_tokenizer.fast.get_vocab()
    state = dict(source.state_dict())
    grown = {name: state.get(name, value) for name, value in model.state_dict().items()}
    ours = tokenizer.fast.get_vocab()
    table = (state["shared.weight"] if ours == theirs else model.shared.weight).clone()  # as it is, spare rows too
    for word, place in ours.items():
        if word in theirs:
            table[place] = state["shared.weight"][theirs[word]].to(table)
    model.load_state_dict({**grown, "shared.weight": table})
    for index, block in enumerate(model.encoder.block):
        if index >= old:
            for name, layer in block.named_modules():
                if name.endswith((".o", ".wo")):
                    _silence(layer)


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _require_same(ours: object, theirs: object, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(ours, name) != getattr(theirs, name):
            raise RequestError(
                f"the recipe's {name} is {getattr(ours, name)}, and that of the weights to begin from is"
                f" {getattr(theirs, name)}",
                "choose another folder, or train from nothing",
            )
