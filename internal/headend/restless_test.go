// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// What is wanted may change as fast as it likes.
func TestListThatKeepsChanging(t *testing.T) {
	const warning = "flood list keeps changing"
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		passes := 0
		k.before = func(changes []underlay.FloodChange) { passes++ }
		d.lists.Set(map[headend.Key][]netip.Addr{one: addrs("10.0.0.1")})
		synctest.Wait()
		d.has(us, 5, "10.0.0.1") // the first at once
		passes = 0
		for i := range 20000 {
			d.lists.Set(map[headend.Key][]netip.Addr{one: {netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
			d.wait(time.Millisecond)
		}
		// One adds, the other removes.
		if most := int(20*time.Second/pause)*2 + 2; passes > most || passes < most/2 {
			t.Errorf("got %d calls of the kernel in 20 s, want about %d", passes, most)
		}
		d.settle()
		d.has(us, 5, "10.0.78.31")
		if lines, _ := d.logged(warning); lines != 1 {
			t.Errorf("got %d warnings, want 1", lines)
		}
		d.logs.Reset()
		for i := range 300 {
			d.set(one, fmt.Sprintf("10.0.0.%d", i%2))
			d.wait(time.Second)
		}
		if lines, _ := d.logged(warning); lines != 0 {
			t.Errorf("got %d warnings of what changes once a second, want none", lines)
		}
	})
}
