// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net"
	"time"
)

// The bounds, for tests that break them.
const (
	MaxRequest     = maxRequest
	MaxAnswer      = maxAnswer
	DefaultClients = defaultClients
	RootClients    = rootClients
	MaxStreams     = maxStreams

	MaxHTTPClients  = maxHTTPClients
	MaxHTTPRequests = maxHTTPRequests
)

// Bind opens the socket with nothing done to its mode afterwards.
func Bind(path string) (net.Listener, error) { return bind(path) }

// ListenWhile is Listen, with meanwhile called right after bind.
func (s *Server) ListenWhile(meanwhile func()) error {
	var err error
	if s.listener, err = bind(s.path); err != nil {
		return err
	}
	meanwhile()
	if err := s.adopt(); err != nil {
		_ = s.listener.Close()
		return err
	}
	return nil
}

// Idle returns how many clients have no request under way.
func (s *Server) Idle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.clients {
		if !c.idle.IsZero() {
			n++
		}
	}
	return n
}

// SetTimes shortens how long a client may take.
func (h *HTTP) SetTimes(request, idle, write time.Duration) {
	h.requestTime, h.idleTime, h.writeTime = request, idle, write
}

// Clients returns how many are connected.
func (h *HTTP) Clients() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}

// SetTimes shortens how long a client may take.
func (s *Server) SetTimes(request, idle, write time.Duration) {
	s.requestTime, s.idleTime, s.writeTime = request, idle, write
}
