// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An endless is a connection that has this many bytes in it.
type endless struct {
	net.Conn
	left int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), e.left)
	e.left -= n
	return n, nil
}

func (e *endless) SetReadDeadline(time.Time) error { return nil }

// A message takes about twice its size in all, whatever its size; one that is
// too large takes no more than what it may be.
func TestReadAllTakesLittleMemory(t *testing.T) {
	const body = 32 << 20
	for _, tt := range []struct {
		name string
		size int
		most float64 // bytes taken
		err  error
	}{
		{"small", 100, minChunk * 1.1, nil},
		{"large", body - 12345, 2.2 * body, nil},
		{"as large as may be", body, 2.2 * body, nil},
		{"too large", body + 1, 1.2 * body, errLarge},
		{"endless", 1 << 40, 1.2 * body, errLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := defaultLimits
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b, err := l.pace(&endless{left: tt.size}, bound{time.Hour, body}).readAll(func() error { return nil })
			runtime.ReadMemStats(&after)
			if !errors.Is(err, tt.err) || err == nil && len(b) != tt.size {
				t.Errorf("got %d bytes and %v, want %d and %v", len(b), err, tt.size, tt.err)
			}
			// A little is for what else runs.
			if got := float64(after.TotalAlloc - before.TotalAlloc); got > tt.most+(64<<10) {
				t.Errorf("got %.0f bytes taken, want at most %.0f", got, tt.most)
			}
		})
	}
}

// What comes in pieces is put together in order.
func TestReadAllKeepsTheOrder(t *testing.T) {
	want := make([]byte, 3*maxChunk+5)
	for i := range want {
		want[i] = byte(i * 7 / 3)
	}
	for _, size := range []int{0, 1, minChunk - 1, minChunk, minChunk + 1, 2 * minChunk, maxChunk, len(want)} {
		l := defaultLimits
		got, err := l.pace(&memory{in: bytes.NewReader(want[:size])}, bound{time.Hour, len(want)}).readAll(func() error { return nil })
		if err != nil || !bytes.Equal(got, want[:size]) {
			t.Errorf("size %d: got %d bytes (%v), or not the same", size, len(got), err)
		}
	}
}

// A pipe takes a deadline also when its other end is closed.
type pipe struct{ net.Conn }

func (p pipe) SetReadDeadline(t time.Time) error {
	_ = p.Conn.SetReadDeadline(t)
	return nil
}

// The time that a large message waits for its place is not the sender's.
func TestWaitForAPlaceIsNotTheSenders(t *testing.T) {
	for _, tt := range []struct {
		name string
		wait time.Duration
		err  error
	}{
		{"a wait here", time.Minute, nil},
		{"a wait there", 0, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limits{idle: time.Hour, rate: 1 << 20, large: 10}
				here, there := net.Pipe()
				var sender sync.WaitGroup
				defer sender.Wait()
				defer here.Close()
				sender.Go(func() {
					defer there.Close()
					_, _ = there.Write(make([]byte, 20))
					time.Sleep(30*time.Second - tt.wait)
					_, _ = there.Write(make([]byte, 20))
				})
				b, err := l.pace(pipe{here}, bound{20 * time.Second, 1 << 20}).readAll(func() error {
					time.Sleep(tt.wait)
					return nil
				})
				if !errors.Is(err, tt.err) || err == nil && len(b) != 40 {
					t.Errorf("got %d bytes and %v, want 40 and %v", len(b), err, tt.err)
				}
			})
		})
	}
}
