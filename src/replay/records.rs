//! What a file or stream holds: lines of JSON, or record batches of Arrow IPC or Parquet.
//!
//! Kinds are told by their first bytes, never by a name. Memory is that of one line or one batch.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use arrow::{
    array::RecordBatch,
    error::ArrowError,
    ipc::{
        reader::{FileReader, StreamReader},
        writer::StreamWriter,
    },
};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

/// Longest line that is read; a longer one is refused and the lines after it go on.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rows of a Parquet file that are in memory at once.
const PARQUET_ROWS: usize = 8192;
/// Read ahead of each input.
const READ_AHEAD: usize = 256 * 1024;

/// One input, open.
pub(super) enum Records {
    Lines(Box<dyn BufRead>),
    ArrowStreams(Box<Streams>),
    ArrowFile(Box<FileReader<BufReader<File>>>),
    Parquet(Box<ParquetRecordBatchReader>),
}

/// What [`Records::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record is in the buffer.
    Record,
    /// A line of so many bytes, which were passed over.
    TooLong(u64),
    /// Nothing more.
    End,
}

impl Records {
    /// Reads what `bytes` begins with. `file` is the same input where it can be sought in:
    /// Parquet and Arrow files keep their index at the end.
    pub(super) fn open(bytes: impl Read + 'static, file: Option<File>) -> io::Result<Self> {
        let mut bytes: Box<dyn BufRead> = Box::new(BufReader::with_capacity(READ_AHEAD, bytes));
        // One read of a pipe may be short, but each kind is known by bytes sent at once.
        for _ in 0..2 {
            let start = bytes.fill_buf()?;
            if start.starts_with(&[0x1f, 0x8b]) {
                let plain = flate2::bufread::MultiGzDecoder::new(bytes);
                bytes = Box::new(BufReader::with_capacity(READ_AHEAD, plain));
            } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                let plain = zstd::stream::read::Decoder::with_buffer(bytes)?;
                bytes = Box::new(BufReader::with_capacity(READ_AHEAD, plain));
            } else {
                break;
            }
        }
        let start = bytes.fill_buf()?;
        if start.starts_with(b"PAR1") {
            let builder = ParquetRecordBatchReaderBuilder::try_new(seekable(file, "Parquet")?);
            let reader = builder.and_then(|builder| builder.with_batch_size(PARQUET_ROWS).build());
            return Ok(Self::Parquet(Box::new(reader.map_err(io::Error::other)?)));
        }
        if start.starts_with(b"ARROW1") {
            let file = seekable(file, "an Arrow IPC file")?;
            let reader = FileReader::try_new_buffered(file, None).map_err(io::Error::other)?;
            return Ok(Self::ArrowFile(Box::new(reader)));
        }
        if start.starts_with(&[0xff, 0xff, 0xff, 0xff]) {
            return Ok(Self::ArrowStreams(Box::new(Streams {
                bytes: Shared(Rc::new(RefCell::new(bytes))),
                open: None,
            })));
        }
        Ok(Self::Lines(bytes))
    }

    /// True when the records are Arrow IPC streams, whatever the configuration says.
    pub(super) const fn are_columns(&self) -> bool {
        !matches!(self, Self::Lines(_))
    }

    /// Puts the next record into `into`, which is cleared first: a line without its end, or a
    /// batch as a self-contained Arrow IPC stream.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<Found> {
        into.clear();
        let batch = match self {
            Self::Lines(bytes) => return read_line(bytes.as_mut(), into),
            Self::ArrowStreams(streams) => streams.next().transpose(),
            Self::ArrowFile(reader) => reader.next().transpose(),
            Self::Parquet(reader) => reader.next().transpose(),
        };
        match batch.map_err(from_arrow)? {
            None => Ok(Found::End),
            Some(batch) => {
                let mut writer =
                    StreamWriter::try_new(&mut *into, &batch.schema()).map_err(from_arrow)?;
                writer.write(&batch).and_then(|()| writer.finish()).map_err(from_arrow)?;
                Ok(Found::Record)
            }
        }
    }
}

fn seekable(file: Option<File>, what: &str) -> io::Result<File> {
    file.ok_or_else(|| {
        io::Error::other(format!(
            "{what} is read from its end: name the file itself, neither compressed nor piped"
        ))
    })
}

fn from_arrow(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, cause) => cause,
        other => io::Error::other(other),
    }
}

/// Reads a line that is not blank. One that is too long is passed over, not kept.
fn read_line(bytes: &mut dyn BufRead, into: &mut Vec<u8>) -> io::Result<Found> {
    loop {
        into.clear();
        let read = bytes.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', into)?;
        if read == 0 {
            return Ok(Found::End);
        }
        if into.len() > LINE_BYTES_MAX && into.last() != Some(&b'\n') {
            let passed_over = read + bytes.skip_until(b'\n')?;
            into.clear();
            return Ok(Found::TooLong(passed_over as u64));
        }
        into.truncate(into.trim_ascii_end().len());
        if !into.is_empty() {
            return Ok(Found::Record);
        }
    }
}

/// Arrow IPC streams one after the other, as a dump of a topic has them.
pub(super) struct Streams {
    bytes: Shared,
    open: Option<StreamReader<Shared>>,
}

impl Iterator for Streams {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.open.as_mut().and_then(Iterator::next) {
                return Some(batch);
            }
            self.open = None;
            match self.bytes.0.borrow_mut().fill_buf() {
                Ok([]) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
            match StreamReader::try_new(self.bytes.clone(), None) {
                Ok(reader) => self.open = Some(reader),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Bytes that one stream reader after the other takes from: none of them gives its input back.
#[derive(Clone)]
struct Shared(Rc<RefCell<Box<dyn BufRead>>>);

impl Read for Shared {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(into)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use arrow::{
        array::{ArrayRef, UInt64Array},
        ipc::writer::FileWriter,
    };

    use super::*;

    fn lines(bytes: impl Read + 'static) -> Vec<String> {
        let mut records = Records::open(bytes, None).unwrap();
        let (mut line, mut found) = (Vec::new(), Vec::new());
        while records.read(&mut line).unwrap() == Found::Record {
            found.push(String::from_utf8(line.clone()).unwrap());
        }
        found
    }

    fn batch(rows: &[u64]) -> RecordBatch {
        let rows: ArrayRef = Arc::new(UInt64Array::from(rows.to_vec()));
        RecordBatch::try_from_iter([("rows", rows)]).unwrap()
    }

    fn stream(rows: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = StreamWriter::try_new(&mut out, &batch(rows).schema()).unwrap();
        writer.write(&batch(rows)).and_then(|()| writer.finish()).unwrap();
        out
    }

    /// Rows of every record, each of which must be a stream of its own.
    fn rows(mut records: Records) -> Vec<Vec<u64>> {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        while records.read(&mut bytes).unwrap() == Found::Record {
            let batch = StreamReader::try_new(&bytes[..], None).unwrap().next().unwrap().unwrap();
            let rows = batch.column(0).as_any().downcast_ref::<UInt64Array>().unwrap();
            found.push(rows.values().to_vec());
        }
        found
    }

    #[test]
    fn lines_are_read_without_their_ends_and_blank_ones_are_none() {
        assert_eq!(
            lines(&b"{\"a\":1}\r\n\n  \n{}\n{\"last\":2}"[..]),
            ["{\"a\":1}", "{}", "{\"last\":2}"]
        );
        assert!(lines(&b""[..]).is_empty());
    }

    #[test]
    fn compressed_lines_are_known_by_their_first_bytes() {
        let text = b"{\"a\":1}\n{\"b\":2}\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let gzip = gzip.finish().unwrap();
        let twice = [gzip.clone(), gzip].concat();
        assert_eq!(lines(io::Cursor::new(twice)).len(), 4);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(lines(io::Cursor::new(zstd)), ["{\"a\":1}", "{\"b\":2}"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_is_read() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 7];
        text.extend_from_slice(b"\n{}\n");
        let mut records = Records::open(io::Cursor::new(text), None).unwrap();
        let mut line = Vec::new();
        let length = LINE_BYTES_MAX as u64 + 8;
        assert_eq!(records.read(&mut line).unwrap(), Found::TooLong(length));
        assert_eq!(records.read(&mut line).unwrap(), Found::Record);
        assert_eq!(line, b"{}");
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read() {
        let mut text = vec![b'x'; LINE_BYTES_MAX];
        text.push(b'\n');
        assert_eq!(lines(io::Cursor::new(text))[0].len(), LINE_BYTES_MAX);
    }

    #[test]
    fn streams_one_after_the_other_are_all_read() {
        let bytes = [stream(&[1, 2]), stream(&[3])].concat();
        let records = Records::open(io::Cursor::new(bytes), None).unwrap();
        assert!(records.are_columns());
        assert_eq!(rows(records), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn arrow_and_parquet_files_are_read_batch_by_batch() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| File::open(folder.path().join(name)).unwrap();
        let create = |name: &str| File::create(folder.path().join(name)).unwrap();
        let mut arrow = FileWriter::try_new(create("a"), &batch(&[]).schema()).unwrap();
        arrow.write(&batch(&[1, 2])).unwrap();
        arrow.write(&batch(&[3])).unwrap();
        arrow.finish().unwrap();
        let found = rows(Records::open(open("a"), Some(open("a"))).unwrap());
        assert_eq!(found, [vec![1, 2], vec![3]]);

        let schema = batch(&[]).schema();
        let mut parquet = parquet::arrow::ArrowWriter::try_new(create("p"), schema, None).unwrap();
        parquet.write(&batch(&[4, 5, 6])).unwrap();
        parquet.close().unwrap();
        let found = rows(Records::open(open("p"), Some(open("p"))).unwrap());
        assert_eq!(found, [vec![4, 5, 6]]);
        let piped = Records::open(open("p"), None).map(|_| ()).unwrap_err();
        assert!(piped.to_string().contains("name the file itself"), "{piped}");
    }

    #[test]
    fn a_file_cut_short_is_an_error_and_not_an_end() {
        let read_all = |bytes: Vec<u8>| {
            let mut records = Records::open(io::Cursor::new(bytes), None)?;
            while records.read(&mut Vec::new())? != Found::End {}
            io::Result::Ok(())
        };
        let zstd = zstd::encode_all(&[b'x'; 1000][..], 1).unwrap();
        assert!(read_all(zstd.clone()).is_ok());
        assert!(read_all(zstd[..zstd.len() - 4].to_vec()).is_err());
        let arrow = stream(&[1, 2, 3]);
        assert!(read_all(arrow.clone()).is_ok());
        assert!(read_all(arrow[..200].to_vec()).is_err());
    }
}
