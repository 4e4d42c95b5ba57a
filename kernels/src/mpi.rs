//! Messages between processes through the MPI library of this machine, found at run time: nothing links it, and one program serves with and without.
//!
//! Only what the exchange of `borealis-model` needs: who we are, messages of bytes that never block (they are started, then polled,
//! so that a caller can give up on a peer that is gone), start and end. Open MPI 4 and 5, whose handles are addresses of exported
//! objects; MPICH's are numbers and are refused by name.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Names of the library, in the order in which they are tried.
const NAMES: [&str; 3] = ["libmpi.so.40", "libmpi.so", "libmpi.40.dylib"];
/// `MPI_THREAD_SERIALIZED`: any thread may call, one at a time.
const SERIALIZED: c_int = 2;

/// What can go wrong with the MPI library.
#[derive(Debug, thiserror::Error)]
pub enum MpiError {
    /// The library is not there, or not one that we know.
    #[error(
        "the MPI library cannot be used: {0}: install Open MPI 4.1 or 5 (openmpi-bin), or use --ranks without mpirun"
    )]
    Library(String),
    /// A call failed.
    #[error("{call}: {problem}")]
    Call {
        /// The MPI function.
        call: &'static str,
        /// The library's own words.
        problem: String,
    },
    /// A message of more bytes than MPI counts.
    #[error("a message of {0} bytes is more than MPI can send: use fewer rows in a step")]
    Size(usize),
}

type Result<T> = std::result::Result<T, MpiError>;
type Handle = *mut c_void;

/// Room for an `MPI_Status` of any version (24 bytes in Open MPI).
#[repr(C, align(16))]
struct Status([u8; 128]);

/// The functions that we call, by their C signatures.
struct Functions {
    init_thread: unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int,
    comm_rank: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    comm_size: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    set_errhandler: unsafe extern "C" fn(Handle, Handle) -> c_int,
    isend: unsafe extern "C" fn(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle) -> c_int,
    irecv: unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle) -> c_int,
    test: unsafe extern "C" fn(*mut Handle, *mut c_int, *mut Status) -> c_int,
    iprobe: unsafe extern "C" fn(c_int, c_int, Handle, *mut c_int, *mut Status) -> c_int,
    get_count: unsafe extern "C" fn(*const Status, Handle, *mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
}

/// The world of processes that `mpirun` started.
pub struct Mpi {
    call: Functions,
    world: Handle,
    byte: Handle,
    rank: usize,
    ranks: usize,
    /// One call at a time.
    lock: Mutex<()>,
    /// Never unloaded: the library has threads and handlers of its own.
    _library: std::mem::ManuallyDrop<Library>,
}

// SAFETY: the handles are addresses of objects of the library that it never moves; all calls are made one at a time under `lock`, which is
// what MPI_THREAD_SERIALIZED (checked in `init`) asks for.
unsafe impl Send for Mpi {}
// SAFETY: as above.
unsafe impl Sync for Mpi {}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("ranks", &self.ranks).finish_non_exhaustive()
    }
}

/// The address of an exported function or object, as a value of type `T` (a function pointer or a pointer).
///
/// # Safety
/// `T` must be pointer-sized and describe what the name stands for.
unsafe fn symbol<T: Copy>(library: &Library, name: &'static str) -> Result<T> {
    // SAFETY: promised by the caller; the name is that of mpi.h.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|s| *s).map_err(|_| {
        let what = if name.starts_with("ompi_") { "it is not Open MPI" } else { "it lacks a function" };
        MpiError::Library(format!("{what} ({name} is missing)"))
    })
}

impl Functions {
    fn of(library: &Library) -> Result<Self> {
        // SAFETY: the signatures are those of mpi.h, with every handle a pointer as in Open MPI.
        unsafe {
            Ok(Self {
                init_thread: symbol(library, "MPI_Init_thread")?,
                comm_rank: symbol(library, "MPI_Comm_rank")?,
                comm_size: symbol(library, "MPI_Comm_size")?,
                set_errhandler: symbol(library, "MPI_Comm_set_errhandler")?,
                isend: symbol(library, "MPI_Isend")?,
                irecv: symbol(library, "MPI_Irecv")?,
                test: symbol(library, "MPI_Test")?,
                iprobe: symbol(library, "MPI_Iprobe")?,
                get_count: symbol(library, "MPI_Get_count")?,
                error_string: symbol(library, "MPI_Error_string")?,
                finalize: symbol(library, "MPI_Finalize")?,
            })
        }
    }
}

fn open() -> Result<Library> {
    let mut problem = String::new();
    for name in NAMES {
        // Open MPI 4 loads parts of itself later, which look for its symbols among the global ones.
        // SAFETY: loading runs the library's initialisers, which is what the user asked for with mpirun.
        match unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => return Ok(library),
            Err(error) if problem.is_empty() => problem = error.to_string(),
            Err(_) => {}
        }
    }
    Err(MpiError::Library(problem))
}

impl Mpi {
    /// Loads the library and joins the world of `mpirun`. At most once in a process.
    pub fn init() -> Result<Arc<Self>> {
        let library = open()?;
        let call = Functions::of(&library)?;
        // SAFETY: both are objects of the library whose addresses are the handles.
        let (world, byte, returns): (Handle, Handle, Handle) = unsafe {
            (
                symbol(&library, "ompi_mpi_comm_world")?,
                symbol(&library, "ompi_mpi_byte")?,
                symbol(&library, "ompi_mpi_errors_return")?,
            )
        };
        let library = std::mem::ManuallyDrop::new(library);
        let mut mpi = Self { call, world, byte, rank: 0, ranks: 1, lock: Mutex::new(()), _library: library };
        let (mut provided, mut rank, mut ranks) = (0, 0, 1);
        // SAFETY: null arguments are allowed since MPI-2; the out-parameters are ours.
        let code =
            unsafe { (mpi.call.init_thread)(std::ptr::null_mut(), std::ptr::null_mut(), SERIALIZED, &mut provided) };
        mpi.check("MPI_Init_thread", code)?;
        if provided < SERIALIZED {
            return Err(MpiError::Library("it was built without support for threads".into()));
        }
        // SAFETY: the world is initialised; the out-parameters are ours.
        unsafe {
            // Errors come back instead of ending the process, so that we can say which rank and which step.
            mpi.check("MPI_Comm_set_errhandler", (mpi.call.set_errhandler)(world, returns))?;
            mpi.check("MPI_Comm_rank", (mpi.call.comm_rank)(world, &mut rank))?;
            mpi.check("MPI_Comm_size", (mpi.call.comm_size)(world, &mut ranks))?;
        }
        (mpi.rank, mpi.ranks) = (rank.max(0) as usize, ranks.max(1) as usize);
        Ok(Arc::new(mpi))
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Starts to send `bytes`.
    pub fn send(self: &Arc<Self>, to: usize, tag: u16, bytes: Vec<u8>) -> Result<Pending> {
        let count = c_int::try_from(bytes.len()).map_err(|_| MpiError::Size(bytes.len()))?;
        let mut request = std::ptr::null_mut();
        let _one = self.one();
        // SAFETY: the bytes live in the returned `Pending` (and are leaked with it) until MPI is done with them.
        let code = unsafe {
            let data = bytes.as_ptr().cast();
            (self.call.isend)(data, count, self.byte, to as c_int, c_int::from(tag), self.world, &mut request)
        };
        self.check("MPI_Isend", code)?;
        Ok(Pending { mpi: self.clone(), request, bytes, done: false })
    }

    /// Length of the next message of a rank that has come, if one has.
    pub fn probe(&self, from: usize, tag: u16) -> Result<Option<usize>> {
        let (mut there, mut count) = (0, 0);
        let mut status = Status([0; 128]);
        let _one = self.one();
        // SAFETY: the out-parameters are ours; the status is larger than MPI's.
        let code = unsafe { (self.call.iprobe)(from as c_int, c_int::from(tag), self.world, &mut there, &mut status) };
        self.check("MPI_Iprobe", code)?;
        if there == 0 {
            return Ok(None);
        }
        // SAFETY: the status was filled by the probe.
        self.check("MPI_Get_count", unsafe { (self.call.get_count)(&status, self.byte, &mut count) })?;
        Ok(Some(count.max(0) as usize))
    }

    /// Starts to receive a message of `len` bytes, which [`Mpi::probe`] has announced.
    pub fn receive(self: &Arc<Self>, from: usize, tag: u16, len: usize) -> Result<Pending> {
        let count = c_int::try_from(len).map_err(|_| MpiError::Size(len))?;
        let (mut bytes, mut request) = (vec![0u8; len], std::ptr::null_mut());
        let _one = self.one();
        // SAFETY: as in `send`; nobody looks at the bytes before MPI is done with them.
        let code = unsafe {
            let data = bytes.as_mut_ptr().cast();
            (self.call.irecv)(data, count, self.byte, from as c_int, c_int::from(tag), self.world, &mut request)
        };
        self.check("MPI_Irecv", code)?;
        Ok(Pending { mpi: self.clone(), request, bytes, done: false })
    }

    /// Leaves the world: waits for all ranks to do so. Nothing may be sent or received afterwards.
    pub fn finalize(&self) -> Result<()> {
        let _one = self.one();
        // SAFETY: initialised; the callers are done with all messages.
        self.check("MPI_Finalize", unsafe { (self.call.finalize)() })
    }

    fn one(&self) -> MutexGuard<'_, ()> {
        // A panic elsewhere leaves no half-made call behind.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // MPI_MAX_ERROR_STRING is 256 in Open MPI.
        let (mut text, mut len) = ([0 as c_char; 1024], 0);
        // SAFETY: the text is longer than MPI's longest, and zero behind what was written.
        let problem = unsafe {
            (self.call.error_string)(code, text.as_mut_ptr(), &mut len);
            CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
        };
        Err(MpiError::Call { call, problem })
    }
}

/// A message on its way. Owns its bytes; dropped before it is done it leaks them, since MPI may still touch them.
pub struct Pending {
    mpi: Arc<Mpi>,
    request: Handle,
    bytes: Vec<u8>,
    done: bool,
}

// SAFETY: the request is an address that only MPI looks at, under the lock of `Mpi`.
unsafe impl Send for Pending {}

impl Pending {
    /// Whether the message is through; never blocks.
    pub fn poll(&mut self) -> Result<bool> {
        if !self.done {
            let (mut flag, mut status) = (0, Status([0; 128]));
            let _one = self.mpi.one();
            // SAFETY: the request was made by MPI and is not finished.
            let code = unsafe { (self.mpi.call.test)(&mut self.request, &mut flag, &mut status) };
            self.mpi.check("MPI_Test", code)?;
            self.done = flag != 0;
        }
        Ok(self.done)
    }

    /// The bytes of a message that is through: to read what was received, or to use the memory again.
    pub fn into_bytes(mut self) -> Option<Vec<u8>> {
        self.done.then(|| std::mem::take(&mut self.bytes))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            std::mem::forget(std::mem::take(&mut self.bytes));
        }
    }
}
