use super::super::deflate::Encoder;
use super::*;
use crate::base::Rng;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, inflated_bytes_max: 1 << 20 };

fn messages(compression: Compression, payloads: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(compression, 3).unwrap();
    let encode = |payload: &&[u8]| {
        let mut message = Vec::new();
        encoder.encode(payload, &mut message).unwrap();
        message
    };
    payloads.iter().map(encode).collect()
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|i| if i % 7 == 0 { rng.below(256) as u8 } else { b"{\"id\":"[i % 6] }).collect()
}

const ALL: [Compression; 3] = [Compression::None, Compression::Zlib, Compression::Zstd];

#[test]
fn names_round_trip() {
    for compression in ALL {
        assert_eq!(compression.to_string().parse(), Ok(compression));
    }
    assert!("gzip".parse::<Compression>().is_err());
    assert_eq!(Compression::Zlib.query_value(), Some("zlib-stream"));
}

#[test]
fn payloads_of_many_sizes_come_back_from_one_context() {
    // Sizes around each step of the output's growth, where a full output may hide more.
    let steps = [1, 2, 100, 16383, 16384, 16385, 32767, 32768, 32769, 65536, 200_000, 3, 1 << 20];
    let payloads: Vec<_> = steps.iter().map(|len| payload(*len, *len as u64)).collect();
    let slices: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
    for compression in ALL {
        let mut decoder = Decoder::new(compression).unwrap();
        let mut output = Output::default();
        for (message, expected) in messages(compression, &slices).iter().zip(&payloads) {
            assert_eq!(decoder.decode(message, &LIMITS, &mut output), Ok(true));
            assert!(output.payload() == expected, "{compression} {}", expected.len());
        }
    }
}

#[test]
fn a_fresh_output_for_each_payload_also_works() {
    let payload = payload(16384, 1);
    for compression in ALL {
        let mut decoder = Decoder::new(compression).unwrap();
        for message in messages(compression, &[payload.as_slice(); 5]) {
            let mut output = Output::default();
            assert_eq!(decoder.decode(&message, &LIMITS, &mut output), Ok(true));
            assert!(output.payload() == payload);
        }
    }
}

#[test]
fn zlib_payloads_may_be_split_anywhere_also_inside_the_suffix() {
    let payloads: [&[u8]; 3] = [b"first", b"{\"op\":11}", b"third"];
    let messages = messages(Compression::Zlib, &payloads);
    let second = &messages[1];
    for cut in 0..second.len() {
        let mut decoder = Decoder::new(Compression::Zlib).unwrap();
        let mut output = Output::default();
        assert_eq!(decoder.decode(&messages[0], &LIMITS, &mut output), Ok(true));
        assert_eq!(decoder.decode(&second[..cut], &LIMITS, &mut output), Ok(false), "cut at {cut}");
        assert_eq!(decoder.decode(&second[cut..], &LIMITS, &mut output), Ok(true), "cut at {cut}");
        assert_eq!(output.payload(), payloads[1]);
        assert_eq!(decoder.decode(&messages[2], &LIMITS, &mut output), Ok(true));
        assert_eq!(output.payload(), payloads[2]);
    }
    // One byte at a time.
    let mut decoder = Decoder::new(Compression::Zlib).unwrap();
    let mut output = Output::default();
    for (message, payload) in messages.iter().zip(payloads) {
        let (last, rest) = message.split_last().unwrap();
        for byte in rest {
            assert_eq!(decoder.decode(&[*byte], &LIMITS, &mut output), Ok(false));
        }
        assert_eq!(decoder.decode(&[*last], &LIMITS, &mut output), Ok(true));
        assert_eq!(output.payload(), payload);
    }
}

#[test]
fn a_payload_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    for compression in ALL {
        for (len, good) in [(50_000, true), (50_001, false)] {
            let payload = payload(len, 3);
            let limits = Limits { inflated_bytes_max: 50_000, ..LIMITS };
            let message = messages(compression, &[&payload]).remove(0);
            for grown in [false, true] {
                let mut output = Output::default();
                if grown {
                    output.copy(&vec![0; 200_000]);
                }
                let result = Decoder::new(compression).unwrap().decode(&message, &limits, &mut output);
                match good {
                    true => assert_eq!(result, Ok(true)),
                    false => assert_eq!(result, Err(Error::PayloadTooLarge { bytes_max: 50_000 })),
                }
            }
        }
    }
}

#[test]
fn bombs_are_cut_off_without_their_memory() {
    let zeros = vec![0; 64 << 20];
    for compression in [Compression::Zlib, Compression::Zstd] {
        let bomb = messages(compression, &[&zeros]).remove(0);
        assert!(bomb.len() < 100_000);
        let mut output = Output::default();
        let result = Decoder::new(compression).unwrap().decode(&bomb, &LIMITS, &mut output);
        assert_eq!(result, Err(Error::PayloadTooLarge { bytes_max: 1 << 20 }));
        assert!(output.capacity() <= 3 << 20, "{}", output.capacity());
    }
}

#[test]
fn a_payload_that_never_ends_is_cut_off() {
    let limits = Limits { message_bytes_max: 1000, ..LIMITS };
    let mut decoder = Decoder::new(Compression::Zlib).unwrap();
    let mut output = Output::default();
    for _ in 0..10 {
        assert_eq!(decoder.decode(&[1; 100], &limits, &mut output), Ok(false));
    }
    assert_eq!(
        decoder.decode(&[1; 100], &limits, &mut output),
        Err(Error::PendingTooLarge { bytes_max: 1000 })
    );
}

#[test]
fn garbage_is_refused_and_stays_refused() {
    let mut garbage = vec![b'<'; 40];
    garbage.extend(SUFFIX);
    for compression in [Compression::Zlib, Compression::Zstd] {
        let mut decoder = Decoder::new(compression).unwrap();
        let mut output = Output::default();
        assert_eq!(decoder.decode(&garbage, &LIMITS, &mut output).unwrap_err().kind(), ErrorKind::Decode);
        assert!(decoder.decode(&garbage, &LIMITS, &mut output).is_err());
    }
}

#[test]
fn the_end_of_the_stream_is_an_error() {
    // A zlib stream of zero bytes, and its checksum, made to end like a message.
    let zlib = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0xff, 0xff];
    let result = Decoder::new(Compression::Zlib).unwrap().decode(&zlib, &LIMITS, &mut Output::default());
    assert_eq!(result, Err(Error::StreamEnd));
    // A zstd frame with one last raw block of three bytes.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x40, 0x19, 0x00, 0x00, b'a', b'b', b'c'];
    let result = Decoder::new(Compression::Zstd).unwrap().decode(&zstd, &LIMITS, &mut Output::default());
    assert_eq!(result, Err(Error::StreamEnd));
}

#[test]
fn a_zstd_window_above_the_limit_is_refused() {
    // Window descriptor: (log - 10) << 3.
    for (log, good) in [(ZSTD_WINDOW_LOG_MAX, true), (ZSTD_WINDOW_LOG_MAX + 1, false), (30, false)] {
        let frame =
            [0x28, 0xb5, 0x2f, 0xfd, 0x00, ((log - 10) << 3) as u8, 0x18, 0x00, 0x00, b'a', b'b', b'c'];
        let mut output = Output::default();
        let result = Decoder::new(Compression::Zstd).unwrap().decode(&frame, &LIMITS, &mut output);
        assert_eq!(result.is_ok(), good, "window log {log}: {result:?}");
    }
}

#[test]
fn corrupted_streams_never_panic() {
    let payload = payload(5000, 9);
    let mut rng = Rng::new(11);
    for compression in [Compression::Zlib, Compression::Zstd] {
        let message = messages(compression, &[&payload]).remove(0);
        for _ in 0..300 {
            let mut bad = message.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bad.len() as u64) as usize;
                bad[at] ^= 1 << rng.below(8);
            }
            let mut decoder = Decoder::new(compression).unwrap();
            let mut output = Output::default();
            let _ = decoder.decode(&bad, &LIMITS, &mut output);
            let _ = decoder.decode(&message, &LIMITS, &mut output);
            assert!(output.payload().len() <= LIMITS.inflated_bytes_max + 1);
        }
    }
}

#[test]
fn a_large_payload_does_not_keep_its_memory() {
    let mut output = Output::default();
    output.copy(&vec![1; 20 << 20]);
    output.clear();
    assert!(output.capacity() <= OUTPUT_BYTES_KEPT);
}
