//! To come.
use super::{DecodeError, Decoder, Outcome, SourceDefaults};

/// To come.
#[derive(Debug, Default)]
pub struct CanonicalDecoder {}

impl Decoder for CanonicalDecoder {
    fn decode(
        &mut self,
        _payload: &[u8],
        _defaults: &SourceDefaults,
        _sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError> {
        Ok(())
    }
}
