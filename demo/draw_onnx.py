"""Faces from an exported .onnx, without TensorFlow or this project: python draw_onnx.py faces.onnx turning.png"""
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])
layout = json.loads(session.get_modelmeta().custom_metadata_map['layout'])
yaw = layout['controls']['yaw']
coefficients = np.tile(np.float32(layout['coefficients']['mean']), [5, 1])
coefficients[:, yaw['index'][0]] = np.linspace(yaw['low'], yaw['high'], 5)      # radians
noise = np.tile(np.float32(np.random.RandomState(1).standard_normal(layout['noise']['size'])), [5, 1])
pictures, = session.run(None, {'coefficients': coefficients, 'noise': noise})   # uint8 RGB [5, size, size, 3]
Image.fromarray(np.concatenate(pictures, axis=1)).save(sys.argv[2])
