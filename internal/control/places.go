// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"time"
)

// admit gives c a place if there is one, or can be. Nobody can keep all of them
// by connecting alone: a client without a request is worth less than a new one,
// and root is served where others have taken what there is.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	most := s.most
	if c.root() {
		most += rootClients
	}
	var out *conn
	if len(s.clients) >= most {
		out = s.idlest(c.root())
		delete(s.clients, out)
	}
	ok := len(s.clients) < most || out != nil
	if ok {
		c.idle = time.Now()
		s.clients[c] = struct{}{}
	}
	s.mu.Unlock()
	if out != nil {
		// It is not told why: it may have no room for a line.
		_ = out.socket.Close()
		s.repeats.Do("idle", func(count int) {
			s.log.WithField("count", count).Warn("idle management client closed: too many are connected")
		})
	}
	return ok
}

// Clients returns how many are connected. It may be called concurrently.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// idlest returns the client that has been without a request for longest, nil if
// there is none. Only root takes root's place. The caller holds mu.
func (s *Server) idlest(root bool) *conn {
	var found *conn
	for c := range s.clients {
		if !c.idle.IsZero() && (root || !c.root()) && (found == nil || c.idle.Before(found.idle)) {
			found = c
		}
	}
	return found
}

// setIdle notes that c has no request under way since then, or that it has one
// where since is zero. It returns false if c has lost its place.
func (s *Server) setIdle(c *conn, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.idle = since
	_, ok := s.clients[c]
	return ok
}

// leave frees the place of c, if it has it still.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// refuse tells a client that it is one too many.
func (c *conn) refuse(ctx context.Context) {
	c.repeats.Do("busy", func(count int) {
		c.log.WithField("count", count).Warn("management client refused: too many are connected")
	})
	// A socket that was just opened has room for a line: this does not wait.
	_ = c.end(ctx, &Error{Code: CodeBusy, Text: "too many clients are connected", Hint: "end one of them, or try again later"})
	_ = c.socket.Close()
}
