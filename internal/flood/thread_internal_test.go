// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/logging"
)

// Short turns change nothing else of a worker's thread.
func TestHasten(t *testing.T) {
	type attr = unix.SchedAttr
	got := make(chan [2]attr)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		var seen [2]attr
		for i := range seen {
			a, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Error(err)
				break
			}
			seen[i] = *a
			(&Raw{cfg: RawConfig{Log: logging.Discard()}}).hasten()
		}
		got <- seen
	}()
	seen := <-got
	want := seen[0]
	if want.Runtime != 0 { // older kernels show none
		want.Runtime = uint64(turn)
	}
	if seen[1] != want {
		t.Errorf("got %+v, want %+v", seen[1], want)
	}
}
