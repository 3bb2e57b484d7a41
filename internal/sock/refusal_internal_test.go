// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody returns an address on which nobody listens.
func nobody(t *testing.T, a netip.Addr) netip.AddrPort {
	t.Helper()
	c, err := ListenControl(context.Background(), netip.AddrPortFrom(a, 0), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr()
}

func TestRefusalsCostOthersNothing(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(bind, func(t *testing.T) {
			ctl, err := ListenControl(context.Background(), netip.MustParseAddrPort(bind), "")
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			refused := make(map[netip.AddrPort]int)
			ctl.OnRefusal(func(to netip.AddrPort, err error) {
				mu.Lock()
				defer mu.Unlock()
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("got %v, want %v", err, unix.ECONNREFUSED)
				}
				refused[to]++
			})
			gone := nobody(t, ctl.LocalAddr().Addr())
			c, local := dial(t, ctl.LocalAddr())

			// A reader that waits hears of it without anything to read.
			const messages = 500
			read := make(chan error)
			go func() {
				b := make([]byte, 10)
				for range messages {
					n, _, _, err := ctl.ReadFrom(b)
					if err != nil || string(b[:n]) != "question" {
						read <- err
						return
					}
				}
				close(read)
			}()
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			told := func(n int) {
				t.Helper()
				for deadline := time.Now().Add(time.Minute); ; {
					mu.Lock()
					got := refused[gone]
					mu.Unlock()
					if got >= n {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("got %d refusals, want %d", got, n)
					}
					runtime.Gosched()
				}
			}
			check(ctl.WriteTo([]byte("lost"), gone, netip.Addr{}))
			told(1)

			b := make([]byte, 10)
			for range messages {
				check(ctl.WriteTo([]byte("lost"), gone, netip.Addr{}))
				check(ctl.WriteTo([]byte("answer"), local, netip.Addr{}))
				write(t, c, []byte("question"))
				check(c.SetReadDeadline(time.Now().Add(time.Minute)))
				n, err := c.Read(b)
				if err != nil || string(b[:n]) != "answer" {
					t.Fatalf("got %q, %v, want the answer", b[:n], err)
				}
			}
			if err, failed := <-read; failed {
				t.Errorf("got %v and a question lost", err)
			}
			told(1 + messages)
			check(ctl.Close())
			if len(refused) != 1 || refused[gone] != 1+messages {
				t.Errorf("got refusals %v, want %d of %s", refused, 1+messages, gone)
			}
		})
	}
}

func TestDatagramsComeBackUnnoticedByDefault(t *testing.T) {
	ctl, err := ListenControl(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	gone := nobody(t, ctl.LocalAddr().Addr())
	for range 100 {
		if err := ctl.WriteTo([]byte("lost"), gone, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
}
