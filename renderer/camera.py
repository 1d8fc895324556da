"""THE camera (paper section 3.2): focal length, zoom, distance and the image sizes of everyone who looks at a face.

World axes: x right, y up, z towards the camera, which stands at (0, 0, DISTANCE) and looks at the origin.
"""

import math

DISTANCE = 10.0             # of the camera from the origin, in the face model's unit (decimetres)
FOCAL_224 = 1015.0          # focal length in pixels of the 224-pixel picture that R_Net sees
ZOOM = 1.22                 # training pictures are enlarged by this: focal length 1015 * 1.22 at 256 pixels
FOCAL_256 = FOCAL_224 * ZOOM
NEAR_CLIP = 0.01
FAR_CLIP = 50.0

RECON_SIZE = 224            # pixels: R_Net's input; its landmarks have their centre at 112
RENDER_SIZE = 256           # pixels: unit of landmarks and flow of renders; centre at 128
ID_SIZE = 160               # pixels: Facenet's input
PARSER_SIZE = 512           # pixels: the face parser's warped input
ALIGNED_SIZE = 512          # pixels: the aligned photo, before the final crop

FOV_Y_DEGREES = math.degrees(2.0 * math.atan(0.5 * RENDER_SIZE / FOCAL_256))    # of renders, at every resolution
