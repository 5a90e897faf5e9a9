"""A drop-in for pydensecrf, which no longer installs on current Pythons.

    import crfrnn_jax.pydensecrf.densecrf as dcrf
    from crfrnn_jax.pydensecrf.utils import unary_from_softmax

in place of `pydensecrf.densecrf` and `pydensecrf.utils`: the same names, arguments,
signs and shapes. What it took wrongly without a word works here, or raises an error.
"""
