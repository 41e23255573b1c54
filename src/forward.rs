//! Streams that write as another one does: all methods of tokio's `AsyncWrite`, also the vectored
//! ones, which a copy by hand forgets first.

/// In an `impl AsyncWrite`: its methods, done with the stream that these patterns find in `self`.
macro_rules! writes_to {
    ($($found:pat => $stream:ident),+) => {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            match self.get_mut() {
                $($found => std::pin::Pin::new($stream).poll_write(cx, buf)),+
            }
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            match self.get_mut() {
                $($found => std::pin::Pin::new($stream).poll_flush(cx)),+
            }
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            match self.get_mut() {
                $($found => std::pin::Pin::new($stream).poll_shutdown(cx)),+
            }
        }

        fn poll_write_vectored(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bufs: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            match self.get_mut() {
                $($found => std::pin::Pin::new($stream).poll_write_vectored(cx, bufs)),+
            }
        }

        fn is_write_vectored(&self) -> bool {
            match self {
                $($found => $stream.is_write_vectored()),+
            }
        }
    };
}

pub(crate) use writes_to;
