"""Compile a network of segmentation-models-pytorch into a bundle.

pip install 'edgeseg[train,compile]'
python examples/compile_module.py OUT.edgeseg [FOLDER_OF_IMAGES_AND_MASKS]
"""

import sys

import segmentation_models_pytorch as smp

import edgeseg
from edgeseg.app.data import dataset_from, spec_from

spec = spec_from("camvid", "96x64", None)  # class names, input size; normalisation of ImageNet
network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=len(spec.classes))  # your trained one
data = dataset_from(sys.argv[2] if len(sys.argv) > 2 else "demo://street?frames=16&size=96x64&step=20", spec=spec)

# The gate compares INT8 with FP32. This network is not trained, so nothing of it is worth a gate.
options = edgeseg.CompileOptions(gate=False)
compilation = edgeseg.compile_model(network.eval(), spec, calibration=data, evaluation=data, options=options)
for result in compilation.results:
    done, convolutions = result.int8_convolutions
    agrees = 100 * result.accuracy.agreement
    print(f"{result.name}: {done} of {convolutions} convolutions in INT8, agrees with FP32 in {agrees:.1f} % of pixels")
edgeseg.write_bundle(compilation.bundle, sys.argv[1])
