// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/vxfld"
)

// An answerer stands in for a peer: it gives each connection the same answer.
type answerer struct {
	addr      netip.AddrPort
	answer    atomic.Pointer[[]byte] // nil: nothing, and the connection stays open
	questions chan *vxfld.Sync
	// speak, where not nil, writes the answer instead.
	speak func(ctx context.Context, c net.Conn)
	close func() // has it end before the test does
}

// answering returns a peer on loopback address number i, which counts what it is
// asked. It ends with the test.
func answering(tb testing.TB, i byte, answer []byte) *answerer {
	tb.Helper()
	return speaking(tb, i, answer, nil)
}

// speaking returns a peer that answers by speak.
func speaking(tb testing.TB, i byte, answer []byte, speak func(context.Context, net.Conn)) *answerer {
	tb.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(host(i), 0).String())
	if err != nil {
		tb.Fatal(err)
	}
	a := &answerer{addr: l.Addr().(*net.TCPAddr).AddrPort(), questions: make(chan *vxfld.Sync, 1000), speak: speak}
	a.say(answer)
	a.close = accept(l, a.serve)
	tb.Cleanup(a.close)
	return a
}

// say sets the answer.
func (a *answerer) say(answer []byte) {
	if answer == nil {
		a.answer.Store(nil)
		return
	}
	a.answer.Store(&answer)
}

func (a *answerer) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	b, err := io.ReadAll(c)
	if err != nil {
		return
	}
	if m, err := vxfld.Parse(b); err == nil {
		select {
		case a.questions <- m.Body.(*vxfld.Sync):
		case <-ctx.Done():
		}
	}
	answer := a.answer.Load()
	if a.speak != nil {
		a.speak(ctx, c)
		return
	}
	if answer == nil {
		<-ctx.Done()
		return
	}
	_, _ = c.Write(*answer)
}

// next returns the next question.
func (a *answerer) next(tb testing.TB) *vxfld.Sync {
	tb.Helper()
	select {
	case q := <-a.questions:
		return q
	case <-time.After(patience):
		tb.Fatal("waited in vain for a question")
		return nil
	}
}
