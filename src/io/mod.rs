//! Files, compression, detection: the only place, beside the stage, that touches the world.
