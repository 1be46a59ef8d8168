"""What training minimises, for each kind of network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.demo_models.network import Detector, Prediction
from tools.demo_models.samples import Batch

TOP_CELLS = 8
POINT_TOLERANCE = 0.1  # twice the sigma of the keypoint metric


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (B, M, 4) with boxes (B, N, 4): (B, M, N)."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(3)
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(2) for x in (a, b))
    return shared / (area_a[:, :, None] + area_b[:, None] - shared + 1e-7)


@torch.no_grad()
def assign(
    model: Detector, boxes: Tensor, scores: Tensor, truth: Tensor, class_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Task-aligned assignment (TOOD, Feng et al. 2021).

    Returns:
        for every cell the index of its true box (B, N), -1 where none, and its quality (B, N).
    """
    overlap = pairwise_iou(truth, boxes)
    chosen = class_ids.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[1])
    metric = scores.transpose(1, 2).gather(1, chosen).sqrt() * overlap**4
    middle, half = (truth[..., :2] + truth[..., 2:]) / 2, (truth[..., 2:] - truth[..., :2]) / 2
    reach = torch.maximum(half[:, :, None], model.strides[None, None].expand(-1, -1, -1, 2))
    inside = ((model.centres - middle[:, :, None]).abs() < reach).all(3)
    inside &= (class_ids >= 0)[:, :, None]
    metric = torch.where(inside, metric + 1e-9, torch.zeros_like(metric))
    best, cells = metric.topk(TOP_CELLS, 2)
    selected = torch.zeros_like(metric, dtype=torch.bool).scatter_(2, cells, best > 0)
    owner_metric, owner = torch.where(selected, overlap + 1e-9, -overlap.new_ones(1)).max(1)
    owner = torch.where(owner_metric > 0, owner, -1)
    mine = torch.where(selected, metric, torch.zeros_like(metric))
    peak = mine.amax(2, keepdim=True)
    peak_overlap = torch.where(selected, overlap, torch.zeros_like(overlap)).amax(2, keepdim=True)
    quality = (mine / (peak + 1e-9) * peak_overlap).gather(1, owner.clamp(min=0)[:, None])[:, 0]
    return owner, torch.where(owner >= 0, quality, torch.zeros_like(quality))


def diou_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al. 2020) of paired boxes (K, 4): (K,)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = ((a[:, :2] + a[:, 2:]) - (b[:, :2] + b[:, 2:])).pow(2).sum(1) / 4
    return 1 - shared / (union + 1e-7) + apart / (hull.pow(2).sum(1) + 1e-7)


def detection_loss(model: Detector, batch: Batch) -> Tensor:
    """Quality-weighted cross-entropy of the classes, 2.5 times the box loss, masks, keypoints."""
    found = model(batch.pictures)
    scores = found.logits.sigmoid()
    owner, quality = assign(model, found.boxes, scores, batch.boxes, batch.class_ids)
    positive = owner >= 0
    labels = batch.class_ids.gather(1, owner.clamp(min=0))
    target = torch.zeros_like(found.logits)
    weight_of = quality[positive]
    target[positive] = (
        functional.one_hot(labels[positive], target.shape[2]).to(target) * weight_of[:, None]
    )
    weight = torch.where(target > 0, target, 0.75 * scores.detach() ** 2)
    entropy = functional.binary_cross_entropy_with_logits(found.logits, target, reduction="none")
    total = quality.sum().clamp(min=1)
    class_loss = (entropy * weight).sum() / total
    matched = batch.boxes.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))[positive]
    per_cell = 2.5 * diou_loss(found.boxes[positive], matched)
    if model.masks:
        per_cell = per_cell + 2.0 * _mask_loss(found, batch, owner, matched)
    if model.points:
        per_cell = per_cell + 3.0 * _point_loss(found, batch, owner, matched)
    return class_loss + (per_cell * weight_of).sum() / total


def _mask_loss(found: Prediction, batch: Batch, owner: Tensor, matched: Tensor) -> Tensor:
    """Cross-entropy of the masks within the true boxes, per positive cell."""
    assert found.prototypes is not None
    picture, cell = torch.nonzero(owner >= 0, as_tuple=True)
    grid = batch.labels[:, 2::4, 2::4].long()  # the label at the middle of each prototype cell
    wanted = (grid[picture] == (owner[picture, cell] + 1)[:, None, None]).float()
    logits = torch.empty_like(wanted)
    for index in range(len(grid)):  # one product per picture: prototypes are shared by its cells
        mine = picture == index
        coefficients = found.coefficients[index, cell[mine]]
        logits[mine] = torch.einsum("nc,chw->nhw", coefficients, found.prototypes[index])
    axis = (torch.arange(grid.shape[2]) + 0.5) * 4
    x1, y1, x2, y2 = (side[:, None] for side in matched.unbind(1))
    columns, rows = (axis > x1) & (axis < x2), (axis > y1) & (axis < y2)
    inside = (rows[:, :, None] & columns[:, None]).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (entropy * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def _point_loss(found: Prediction, batch: Batch, owner: Tensor, matched: Tensor) -> Tensor:
    """1 - OKS plus the distance in box sizes, of visible points; cross-entropy of visibility."""
    picture, cell = torch.nonzero(owner >= 0, as_tuple=True)
    truth = batch.points[picture, owner[picture, cell]]
    guess = found.points[picture, cell]
    area = (matched[:, 2:] - matched[:, :2]).prod(1).clamp(min=1)[:, None]
    apart = (guess[..., :2] - truth[..., :2]).pow(2).sum(2) / area
    error = 1 - torch.exp(-apart / (2 * POINT_TOLERANCE**2)) + (apart + 1e-6).sqrt()
    visible = truth[..., 2]
    seen = functional.binary_cross_entropy_with_logits(guess[..., 2], visible, reduction="none")
    return (error * visible).sum(1) / visible.sum(1).clamp(min=1) + 0.2 * seen.mean(1)


def single_label_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy with the class of the only box."""
    return functional.cross_entropy(
        model(batch.pictures), batch.class_ids[:, 0], label_smoothing=0.05
    )


def multi_label_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Binary cross-entropy: which classes are among the boxes."""
    logits = model(batch.pictures)
    kinds = torch.arange(logits.shape[1])
    present = (batch.class_ids[:, :, None] == kinds).any(1)
    return functional.binary_cross_entropy_with_logits(logits, present.float())


def semantic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of every pixel plus one minus the soft overlap of every class."""
    logits = functional.interpolate(
        model(batch.pictures), size=batch.labels.shape[1:], mode="bilinear"
    )
    target = batch.labels.long()
    shares = logits.softmax(1)
    wanted = functional.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
    shared = (shares * wanted).sum((0, 2, 3))
    overlap = (2 * shared + 1) / (shares.sum((0, 2, 3)) + wanted.sum((0, 2, 3)) + 1)
    return functional.cross_entropy(logits, target) + 1 - overlap.mean()
