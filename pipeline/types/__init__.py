"""The nouns that cross rooms: frozen dataclasses over arrays, and the protocols between rooms.

Below every other module: nothing here imports from relook but its errors. Words are the field's: descriptor, gallery,
query, candidate, ranking.
"""

from pipeline.types.descriptors import (
    Description,
    FeatureMaps,
    FloatArray,
    GlobalDescriptors,
    Keypoints,
    LocalDescriptors,
    Prepared,
    PreparedKeypoints,
    StoredVectors,
)
from pipeline.types.explanations import Attended, Explanation, Geometry, Neighbours, VerifiedMatches
from pipeline.types.images import Box, GroundTruth, ImageRecord
from pipeline.types.keypoints import PICTURE, GreyPicture, KeypointExtractor, KeypointsCard, Matcher, Matches
from pipeline.types.model_card import IMPORTED, LocalsCard, LocalsProjection, MapsCard, ModelCard, shortened
from pipeline.types.protocols import (
    Describer,
    DescriptorSource,
    ExplainingReranker,
    FittableDescriber,
    HostedStore,
    Reranker,
    SearchingReranker,
    VectorStore,
    WriteCost,
    explains,
    is_hosted,
    searches_further,
)
from pipeline.types.rankings import Candidates, FurtherSearch, Ranking

__all__ = [
    "IMPORTED",
    "PICTURE",
    "Attended",
    "Box",
    "Candidates",
    "Describer",
    "Description",
    "DescriptorSource",
    "ExplainingReranker",
    "Explanation",
    "FeatureMaps",
    "FittableDescriber",
    "FloatArray",
    "FurtherSearch",
    "Geometry",
    "GlobalDescriptors",
    "GreyPicture",
    "GroundTruth",
    "HostedStore",
    "ImageRecord",
    "KeypointExtractor",
    "Keypoints",
    "KeypointsCard",
    "LocalDescriptors",
    "LocalsCard",
    "LocalsProjection",
    "MapsCard",
    "Matcher",
    "Matches",
    "ModelCard",
    "Neighbours",
    "Prepared",
    "PreparedKeypoints",
    "Ranking",
    "Reranker",
    "SearchingReranker",
    "StoredVectors",
    "VectorStore",
    "VerifiedMatches",
    "WriteCost",
    "explains",
    "is_hosted",
    "searches_further",
    "shortened",
]
