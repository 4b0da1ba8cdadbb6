// Package runtime gives memory to the bindings and to the host, and holds the handles of resources. It has the interface
// that the bindings of `wit-bindgen go` expect.
package runtime

import (
	"runtime"
	"unsafe"
)

// Handle is the index of a resource in the table of the instance, or 0 once it is given away.
type Handle struct {
	index int32
}

// MakeHandle returns a Handle for a resource that the host has passed.
func MakeHandle(index int32) *Handle {
	handle := &Handle{}
	handle.Set(index)
	return handle
}

// Use returns the index, which stays here.
func (handle *Handle) Use() int32 {
	if handle.index == 0 {
		panic("the resource was dropped or passed on")
	}
	return handle.index
}

// Take returns the index and gives it away: its receiver must drop the resource.
func (handle *Handle) Take() int32 {
	index := handle.Use()
	handle.index = 0
	return index
}

// TakeOrNil is like Take, but returns 0 if the handle was given away already.
func (handle *Handle) TakeOrNil() int32 {
	index := handle.index
	handle.index = 0
	return index
}

// Set stores an index in a Handle that has none.
func (handle *Handle) Set(index int32) {
	if index == 0 {
		panic("a handle must not be 0")
	}
	if handle.index != 0 {
		panic("there is a handle already")
	}
	handle.index = index
}

// Allocate returns memory that stays until pinner is unpinned.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	memory := allocate(size, align)
	if memory != nil {
		pinner.Pin(memory)
	}
	return memory
}

// The memory holds no pointers that the garbage collector would follow.
func allocate(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	if align <= 1 {
		return unsafe.Pointer(unsafe.SliceData(make([]byte, size)))
	}
	// The greatest alignment of a type in WIT is 8.
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
}

// Memory that the host has filled and that the bindings may not have read yet. It is kept here, because the garbage
// collector would free it. The bindings themselves refer to the parts that they have read.
// Within one call the host passes at most lentMax bytes, unless it calls an export, and then Unpin follows.
var (
	lent      []unsafe.Pointer
	lentBytes uintptr
	former    []unsafe.Pointer
)

const lentMax = 8 << 20

func lend(memory unsafe.Pointer, size uintptr) {
	if lentBytes+size > lentMax {
		former, lent, lentBytes = lent, former[:0], 0
		clear(lent[:cap(lent)])
	}
	lent = append(lent, memory)
	lentBytes += size
}

// Unpin releases this memory. The bindings call it when they have read the arguments of an export.
func Unpin() {
	clear(lent)
	clear(former)
	lent, former, lentBytes = lent[:0], former[:0], 0
}

// The adapter asks for memory before the program is initialized, when there is no garbage collector yet.
var (
	isInitialized bool
	early         [256 << 10]byte
	earlyUsed     uintptr
)

func init() { isInitialized = true }

func allocateEarly(size, align uintptr) unsafe.Pointer {
	start := uintptr(unsafe.Pointer(&early))
	memory := (start + earlyUsed + align - 1) &^ (align - 1)
	earlyUsed = memory + size - start
	if earlyUsed > uintptr(len(early)) {
		panic("too much memory was asked for before the program was initialized")
	}
	return unsafe.Pointer(&early[memory-start])
}

// While the host asks for memory, an instance cannot call it. But the garbage collector reads the clock, so the adapter
// answers with the time of the last call meanwhile.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func pauseClock(isPaused bool)

//go:wasmexport cabi_realloc
func reallocate(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if !isInitialized {
		return allocateEarly(size, align)
	}
	pauseClock(true)
	memory := allocate(size, align)
	if memory != nil {
		if old != nil {
			copy(unsafe.Slice((*byte)(memory), size), unsafe.Slice((*byte)(old), oldSize))
		}
		lend(memory, size)
	}
	pauseClock(false)
	return memory
}
