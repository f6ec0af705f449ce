"""Three-dimensional shapes: voxel grids, meshes, images and files of them; no torch.

World axes: x to the right, y away from the viewer, z up; an object fills the cube
[-0.5, 0.5]^3 and its front faces -y. A grid is indexed [x, y, z], and voxel i of R has its
centre at (i + 0.5) / R - 0.5.
"""
