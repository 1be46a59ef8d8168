"""What the API answers: typed structs, which are the schemas of ``/openapi.json`` too."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field


class Info(Struct):
    """Who answers here; ``uuid`` is new at every start."""

    name: str
    version: str
    uuid: str


class Home(Struct):
    """Who answers here, and where its pages are."""

    name: str
    version: str
    links: dict[str, str]


class Status(Struct):
    """In one word or two."""

    status: str


class Started(Struct):
    """A model was loaded."""

    status: int
    message: str


class Refusal(Struct):
    """What was wrong, with which value, and what to do; ``status`` is told when it is 401."""

    message: str
    status: int | UnsetType = UNSET


class Violation(Struct):
    """One field that is not what it should be: where it was sent, and why it was refused."""

    type: str
    loc: list[str | int]
    msg: str


class Violations(Struct):
    """The request does not fit its schema."""

    detail: list[Violation]


class NotFound(Struct):
    """There is no such path, or it does not answer this method."""

    detail: str


class Size(Struct):
    """Of a picture, in pixels."""

    width: int
    height: int


class Box(Struct, kw_only=True):
    """One object: centre and size in pixels of ``image``."""

    x: float
    y: float
    width: float
    height: float
    confidence: float
    class_: str = field(name="class")
    class_id: int
    detection_id: str


class Point(Struct):
    """In pixels of ``image``."""

    x: float
    y: float


class RunLengths(Struct):
    """A mask as COCO's compressed run lengths; ``size`` is height, width."""

    size: tuple[int, int]
    counts: str


class Instance(Box, kw_only=True):
    """One object with its outline: ``points`` or ``rle``, as ``mask_format`` says."""

    points: list[Point] | UnsetType = UNSET
    rle: RunLengths | UnsetType = UNSET
    mask_format: Literal["polygon", "rle"]


class Keypoint(Struct, kw_only=True):
    """``class_id`` is its place in the skeleton."""

    x: float
    y: float
    confidence: float
    class_id: int
    class_: str = field(name="class")


class Pose(Box, kw_only=True):
    """One object with the keypoints that were seen."""

    keypoints: list[Keypoint]


class ClassScore(Struct, kw_only=True):
    """One class and how sure the model is, from 0 to 1."""

    class_: str = field(name="class")
    class_id: int
    confidence: float


class LabelScore(Struct, kw_only=True):
    """How sure the model is of one class, from 0 to 1."""

    confidence: float
    class_id: int


class ClassMap(Struct, kw_only=True):
    """A class for every pixel: two grey PNGs in base64, of class ids and of confidences x 255."""

    segmentation_mask: str
    confidence_mask: str
    class_map: dict[str, str]
    present_class_ids: list[int]


class Answer(Struct, kw_only=True):
    """What every inference is answered with."""

    visualization: Annotated[str, Meta(description="JPEG in base64.")] | UnsetType = UNSET
    inference_id: str = ""
    time: Annotated[float, Meta(description="Seconds since the request was read.")] = 0.0
    image: Size


class DetectionAnswer(Answer, kw_only=True):
    """Boxes, best first."""

    predictions: list[Box]


class MaskGrid(Struct, kw_only=True):
    """How the grid of reduced masks lies over the picture."""

    coordinate_system: Literal["mask_grid"] = "mask_grid"
    width: int
    height: int
    scale_x: float
    scale_y: float


class SegmentationAnswer(Answer, kw_only=True):
    """Outlined objects, best first."""

    predictions: list[Instance]
    original_image: Size | UnsetType = UNSET
    mask_metadata: MaskGrid | UnsetType = UNSET


class PoseAnswer(Answer, kw_only=True):
    """Objects with keypoints, best first."""

    predictions: list[Pose]


class ClassificationAnswer(Answer, kw_only=True):
    """Classes above the threshold, best first."""

    predictions: list[ClassScore]
    top: str
    confidence: float


class LabelsAnswer(Answer, kw_only=True):
    """Every class by name, and those above the threshold."""

    predictions: dict[str, LabelScore]
    predicted_classes: list[str]


class ClassMapAnswer(Answer, kw_only=True):
    """Semantic segmentation."""

    predictions: ClassMap


AnyAnswer: TypeAlias = (
    DetectionAnswer
    | SegmentationAnswer
    | PoseAnswer
    | ClassificationAnswer
    | LabelsAnswer
    | ClassMapAnswer
)


class ModelState(Struct, kw_only=True, omit_defaults=True):
    """A model on this server. What follows ``bundled`` is told of loaded models."""

    model_id: str
    task: str | None = None
    family: str | None = None
    classes: int | None = None
    state: Literal["installed", "loading", "loaded", "failed", "damaged"]
    error: Annotated[str, Meta(description="Why it is failed or damaged.")] | None = None
    bundled: Annotated[bool, Meta(description="It comes with Edge Server and stays.")]
    engine: str | None = None
    precision: str | None = None
    memory_bytes: int | None = None
    load_s: Annotated[float, Meta(description="Seconds that loading took.")] | None = None
    idle_s: Annotated[float, Meta(description="Seconds since it was last asked.")] | None = None
    aliases: Annotated[list[str], Meta(description="Other ids that led to it.")] | None = None
    upgrade: Annotated[str, Meta(description="Its way to TensorRT, in words.")] | None = None


class Models(Struct):
    """Every model that is installed."""

    models: list[ModelState]


class Deleted(Struct):
    """A model was deleted from disk."""

    model_id: str


class LoadedModel(Struct, kw_only=True):
    """A model in memory."""

    model_id: str
    task_type: str
    batch_size: int | None
    input_height: int
    input_width: int
    vram_bytes: int | None = None
    request_aliases: list[str] = field(default_factory=list)
    request_paths: list[str] = field(default_factory=list)


class Registry(Struct, kw_only=True):
    """The models in memory. Fields about a GPU are null without one."""

    models: list[LoadedModel]
    total_vram_bytes: int | None = None
    gpu_memory_used: int | None = None
    gpu_memory_total: int | None = None
    torch_cuda_allocated: int | None = None
    torch_cuda_reserved: int | None = None
    torch_cuda_allocator_cache: int | None = None
    non_torch_gpu_memory: int | None = None
