"""Training of any network on planes of backscatter in dB: one loop that resumes to the bit, patches, checkpoints.

* Data: `scenes` reads files into planes, `planes` defines and stores them, `patches` cuts them, `augmentation` varies patches.
* Loop: `interfaces` of models and batches, `schedule` of a run, `run_state`, the `loop` itself.
* Output: `checkpoint` files, `monitoring` with TensorBoard.

The room knows no model. It may import stores, latents, codec, scenes, radiometry and metrics, and never models or benchmarks.
"""
