//! What a guest without std needs: an allocator that only grows, `cabi_realloc`, and a panic that traps. Such a guest
//! imports nothing of WASI.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;

struct Heap;

static mut NEXT: usize = 0;
static mut END: usize = 0;

// One thread only: a component is never entered by two.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = (NEXT + layout.align() - 1) & !(layout.align() - 1);
        if at + layout.size() <= END {
            NEXT = at + layout.size();
            return at as *mut u8;
        }
        let pages = layout.size() / 65536 + 2;
        let first = wasm32::memory_grow(0, pages);
        if first == usize::MAX {
            return core::ptr::null_mut();
        }
        NEXT = first * 65536;
        END = NEXT + pages * 65536;
        self.alloc(layout)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Heap = Heap;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    wasm32::unreachable()
}

/// The canonical ABI's allocator.
#[no_mangle]
pub unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    if size == 0 {
        return align as *mut u8;
    }
    let at = HEAP.alloc(Layout::from_size_align_unchecked(size, align));
    if at.is_null() {
        wasm32::unreachable();
    }
    core::ptr::copy_nonoverlapping(old, at, old_size.min(size));
    at
}
