"""Names to code: one table, resolved on first use, so that a config costs no heavy import.

A row maps a short name to `module:attribute`. Code outside the project needs no row: a config
may write `use: package.module:attribute` wherever it may write a name.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from vlrl.errors import ConfigError, did_you_mean

REGISTRY: dict[str, dict[str, str]] = {
    "task": {
        "gui_grounding": "vlrl.tasks.gui_grounding:GuiGrounding",
        "text_to_image": "vlrl.tasks.text_to_image:TextToImage",
        "text_to_3d": "vlrl.tasks.text_to_3d:TextTo3D",
        "video_grounding": "vlrl.tasks.video_grounding:VideoGrounding",
        "preference_judgement": "vlrl.tasks.preference_judgement:PreferenceJudgement",
        "visual_reasoning": "vlrl.tasks.visual_reasoning:VisualReasoning",
    },
    "policy": {
        "vision_language": "vlrl.policy.vision_language.policy:VisionLanguagePolicy",
        "flow": "vlrl.policy.flow.policy:FlowPolicy",
        "image_tokens": "vlrl.policy.image_tokens.policy:ImageTokenPolicy",
        "voxel_tokens": "vlrl.policy.voxel_tokens.policy:VoxelTokenPolicy",
    },
    "policy_options": {
        "vision_language": "vlrl.policy.vision_language.options:VisionLanguageConfig",
        "flow": "vlrl.policy.flow.options:FlowConfig",
        "image_tokens": "vlrl.policy.image_tokens.options:ImageTokensConfig",
        "voxel_tokens": "vlrl.policy.voxel_tokens.options:VoxelTokensConfig",
    },
    "reward": {
        "gaussian_point": "vlrl.rewards.gui.gaussian_point:gaussian_point",
        "gaussian_coverage": "vlrl.rewards.gui.gaussian_coverage:gaussian_coverage",
        "box_hit": "vlrl.rewards.gui.box_hit:box_hit",
        "box_iou": "vlrl.rewards.gui.box_iou:box_iou",
        "box_valid": "vlrl.rewards.gui.box_valid:box_valid",
        "edge_harmonic": "vlrl.rewards.gui.edge_harmonic:edge_harmonic",
        "point_hit": "vlrl.rewards.gui.point_hit:point_hit",
        "point_distance": "vlrl.rewards.gui.point_distance:point_distance",
        "multi_point": "vlrl.rewards.gui.multi_point:multi_point",
        "points_spread": "vlrl.rewards.gui.points_spread:points_spread",
        "format": "vlrl.rewards.gui.format:answer_format",
        "image_class": "vlrl.rewards.image.image_class:ImageClass",
        "adversarial_dino": "vlrl.rewards.image.adversarial_dino:AdversarialDino",
        "adversarial_scorer": "vlrl.rewards.image.adversarial_scorer:AdversarialScorer",
        "clip_score": "vlrl.rewards.image.clip_score:ClipScore",
        "pick_score": "vlrl.rewards.image.pick_score:PickScore",
        "hps_v2": "vlrl.rewards.image.hps_v2:HpsV2",
        "aesthetic": "vlrl.rewards.image.aesthetic:Aesthetic",
        "ocr_match": "vlrl.rewards.image.ocr_match:OcrMatch",
        "dino_similarity": "vlrl.rewards.image.dino_similarity:DinoSimilarity",
        "jpeg_compressibility": "vlrl.rewards.image.jpeg_compressibility:JpegCompressibility",
        "geneval": "vlrl.rewards.image.geneval:Geneval",
        "voxel_iou": "vlrl.rewards.mesh.voxel_iou:voxel_iou",
        "boundary": "vlrl.rewards.mesh.boundary:boundary",
        "silhouette_iou": "vlrl.rewards.mesh.silhouette_iou:silhouette_iou",
        "chamfer": "vlrl.rewards.mesh.chamfer:chamfer",
        "surface_f_score": "vlrl.rewards.mesh.surface_f_score:surface_f_score",
        "part_counts": "vlrl.rewards.mesh.part_counts:part_counts",
        "colour_match": "vlrl.rewards.mesh.colour_match:colour_match",
        "symmetry": "vlrl.rewards.mesh.symmetry:symmetry",
        "no_floaters": "vlrl.rewards.mesh.no_floaters:no_floaters",
        "set_iou": "vlrl.rewards.box_sets:set_iou",
        "salience_iou": "vlrl.rewards.box_sets:salience_iou",
        "remote": "vlrl.rewards.remote:Remote",
        "track_format": "vlrl.rewards.video.track_format:track_format",
        "track_consistency": "vlrl.rewards.video.track_consistency:track_consistency",
        "temporal_iou": "vlrl.rewards.video.temporal_iou:temporal_iou",
        "track_spatial": "vlrl.rewards.video.track_spatial:TrackSpatial",
        "track_improvement": "vlrl.rewards.video.track_improvement:TrackImprovement",
        "track_credit": "vlrl.rewards.video.track_credit:TrackCredit",
        "tube_iou": "vlrl.rewards.video.tube_iou:tube_iou",
        "track_mean_iou": "vlrl.rewards.video.track_mean_iou:track_mean_iou",
        "time_proximity": "vlrl.rewards.video.timed_boxes:time_proximity",
        "timed_boxes": "vlrl.rewards.video.timed_boxes:timed_boxes",
        "answer_match": "vlrl.rewards.reasoning.answer_match:answer_match",
        "route_valid": "vlrl.rewards.reasoning.route_parts:route_valid",
        "route_ends": "vlrl.rewards.reasoning.route_parts:route_ends",
        "route_rides": "vlrl.rewards.reasoning.route_parts:route_rides",
        "route_changes": "vlrl.rewards.reasoning.route_parts:route_changes",
        "yes_token": "vlrl.rewards.judge.yes_token:YesToken",
        "verdict_match": "vlrl.rewards.judge.verdict_match:verdict_match",
        "preference_head": "vlrl.rewards.judge.preference_head:PreferenceHead",
    },
    "config_file": {
        "judge": "vlrl.judge.train.config:JudgeTrainConfig",
        "serve-rewards": "vlrl.reward.server.settings:ServeConfig",
    },
    "combinator": {
        "sum": "vlrl.reward.combinators.combine:Sum",
        "mean": "vlrl.reward.combinators.combine:Mean",
        "product": "vlrl.reward.combinators.combine:Product",
        "min": "vlrl.reward.combinators.combine:Min",
        "max": "vlrl.reward.combinators.combine:Max",
        "harmonic": "vlrl.reward.combinators.combine:Harmonic",
        "geomean": "vlrl.reward.combinators.combine:Geomean",
        "gate": "vlrl.reward.combinators.gate:Gate",
        "clip": "vlrl.reward.combinators.bounds:Bounds",
        "views": "vlrl.rewards.mesh.views:Views",
        "stages": "vlrl.reward.combinators.stages:Stages",
        "stage": "vlrl.reward.combinators.stages:Stage",
        "pair": "vlrl.reward.combinators.pair:Pair",
        "group": "vlrl.reward.combinators.group:Group",
        "shape": "vlrl.reward.combinators.shape:Shape",
        "novelty": "vlrl.reward.combinators.novelty:Novelty",
        "gain": "vlrl.reward.combinators.gain:Gain",
        "signed_geomean": "vlrl.reward.combinators.signed_geomean:SignedGeomean",
        "progress": "vlrl.reward.combinators.progress:Progress",
        "hierarchy": "vlrl.reward.combinators.hierarchy:Hierarchy",
        "blend": "vlrl.reward.combinators.blend:Blend",
        "any_of": "vlrl.reward.combinators.any_of:AnyOf",
        "detail": "vlrl.reward.combinators.detail:Detail",
        "difficulty": "vlrl.reward.combinators.difficulty:Difficulty",
        "confidence": "vlrl.reward.combinators.confidence:Confidence",
    },
    "novelty": {
        "elliptical": "vlrl.reward.novelty.elliptical:Elliptical",
        "distilled": "vlrl.reward.novelty.distilled:Distilled",
        "archive": "vlrl.reward.novelty.archive:Archive",
    },
    "features": {
        "text": "vlrl.reward.novelty.text_features:text_features",
        "image": "vlrl.rewards.image.pixel_features:pixel_features",
        "shape": "vlrl.rewards.mesh.shape_features:shape_features",
    },
    "shape": {
        "par": "vlrl.reward.shapes.par:Par",
        "centred": "vlrl.reward.shapes.centred:Centred",
        "tanh": "vlrl.reward.shapes.tanh:Tanh",
        "arctan": "vlrl.reward.shapes.arctan:Arctan",
        "slow_start": "vlrl.reward.shapes.slow_start:SlowStart",
        "log_sigmoid": "vlrl.reward.shapes.log_sigmoid:LogSigmoid",
        "running_zscore": "vlrl.reward.shapes.running_zscore:RunningZscore",
        "running_minmax": "vlrl.reward.shapes.running_minmax:RunningMinmax",
        "running_clip": "vlrl.reward.shapes.running_clip:RunningClip",
        "ceiling": "vlrl.reward.shapes.ceiling:Ceiling",
        "length_penalty": "vlrl.reward.shapes.length_penalty:LengthPenalty",
        "unit": "vlrl.reward.shapes.unit:Unit",
    },
}


def resolve(kind: str, name: str) -> Any:
    """The object behind `name`; raises ConfigError with the nearest known name."""
    rows = REGISTRY[kind]
    target = name if ":" in name else rows.get(name)
    if target is None:
        raise ConfigError(f"unknown {kind} {name!r}; {did_you_mean(name, rows)}")
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{kind} {name!r}: written package.module:attribute")
    if ":" in name and os.getcwd() not in sys.path:
        # A user's module is in the current folder, where `vlrl`, unlike `python`, does not look.
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A missing dependency *inside* the module is the module's own story: let it through.
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"{kind} {name!r}: there is no module {error.name!r}, here or on PYTHONPATH"
            ) from error
        raise
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        known = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(
            f"{kind} {name!r}: module {module_name!r} has no {attribute!r}; "
            f"{did_you_mean(attribute, known)}"
        ) from error
