"""`format=onnx_int8`: the graph with embeddings and matrix products in 8 bits.

Weights are rounded in blocks and each token's activations by themselves, so that a text's answer does not depend on
the other texts of its batch, as it would with `quantize_dynamic` of matrix products.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

BLOCK_SIZE = 128  # weights that share a scale
INT8_ACTIVATIONS = 4  # onnxruntime's `accuracy_level`: the products themselves are made in 8 bits


def quantize(graph: Path) -> None:
    """Replace a graph's weights by 8-bit ones."""
    import onnx  # the imports below configure logging, where nobody has
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    from onnxruntime.quantization.shape_inference import quant_pre_process

    for name in ("onnxruntime.quantization.matmul_nbits_quantizer", "onnxruntime.quantization"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a line per node of the graph
    with tempfile.TemporaryDirectory() as temporary:
        prepared, embedded = Path(temporary, "prepared.onnx"), Path(temporary, "embedded.onnx")
        # The symbolic step fails on traced graphs.
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(str(prepared), str(embedded), op_types_to_quantize=["Gather"], weight_type=QuantType.QUInt8)
        config = DefaultWeightOnlyQuantConfig(
            block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=INT8_ACTIVATIONS, bits=8
        )
        quantizer = MatMulNBitsQuantizer(onnx.load(str(embedded)), algo_config=config)
        quantizer.process()
        quantizer.model.save_model_to_file(str(graph), use_external_data_format=False)
