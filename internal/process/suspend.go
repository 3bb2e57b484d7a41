// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StopBySignal has SIGTSTP stop the process, until restore is called, as it does in
// a program that never asked for that signal. Once Go was asked for a signal its
// handler stays, and signal.Stop and Reset do not bring back what the kernel
// does. Calls must not overlap.
func StopBySignal() (restore func(), err error) {
	var byDefault, before [8]uintptr // a struct sigaction with room to spare: all zeros are SIG_DFL
	set := func(to, was *[8]uintptr) error {
		const sizeOfSet = 8 // what the kernel calls a sigset_t
		_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTSTP), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(was)), sizeOfSet, 0, 0)
		if e != 0 {
			return fmt.Errorf("sigaction: %w", e)
		}
		return nil
	}
	return func() { _ = set(&before, nil) }, set(&byDefault, &before)
}
