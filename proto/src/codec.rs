//! The codec of every gRPC call: prost's, with room made for a whole message before it is encoded.
//!
//! A frame that grows as it fills is copied each time it does; a produce request is mostly one large record batch.

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Encodes `T` and decodes `U`.
#[derive(Clone, Debug)]
pub struct RoomyCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for RoomyCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::new())
    }
}

impl<T, U> Codec for RoomyCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = RoomyEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> RoomyEncoder<T> {
        RoomyEncoder(self.0.encoder())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        self.0.decoder()
    }
}

/// Encodes a message into a buffer that has room for all of it.
#[derive(Clone, Debug)]
pub struct RoomyEncoder<T>(ProstEncoder<T>);

impl<T: Message> Encoder for RoomyEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.reserve(message.encoded_len());
        self.0.encode(message, frame)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
