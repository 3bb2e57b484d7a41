// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net"
	"time"
)

// clientKey is the key of the *httpClient in the context of a request.
type clientKey struct{}

// An httpClient is a connection of an HTTP.
type httpClient struct {
	net.Conn
	h     *HTTP
	since time.Time // when it was last waited for, zero while it is not; guarded by HTTP.mu
}

// A doorkeeper is the listener of an HTTP that hands out no more connections
// than there are places. Nobody can keep a place by taking time: one more than
// that takes the place of the client that has been waited for longest, be it for
// a request or to read an answer.
type doorkeeper struct{ *HTTP }

// Accept returns the next client that gets a place.
func (d doorkeeper) Accept() (net.Conn, error) {
	for {
		c, err := d.accept()
		if err != nil {
			return nil, err
		}
		client := &httpClient{Conn: c, h: d.HTTP, since: time.Now()}
		if d.admit(client) {
			return client, nil
		}
		_ = c.Close()
	}
}

func (h *HTTP) accept() (net.Conn, error) {
	if h.tcp == nil {
		return h.unix.listener.Accept()
	}
	return h.tcp.Accept()
}

// Addr returns the address of the socket.
func (d doorkeeper) Addr() net.Addr {
	if d.tcp == nil {
		return d.unix.listener.Addr()
	}
	return d.tcp.Addr()
}

// admit gives c a place if there is one, or can be.
func (h *HTTP) admit(c *httpClient) bool {
	h.mu.Lock()
	var out *httpClient
	if len(h.clients) >= maxHTTPClients {
		for o := range h.clients {
			if !o.since.IsZero() && (out == nil || o.since.Before(out.since)) {
				out = o
			}
		}
		delete(h.clients, out)
	}
	ok := len(h.clients) < maxHTTPClients
	if ok {
		h.clients[c] = struct{}{}
	}
	h.mu.Unlock()
	if out != nil {
		_ = out.Conn.Close()
	}
	if out != nil || !ok {
		h.repeats.Do("places", func(count int) {
			h.log.WithField("count", count).Warn("metrics client closed: too many are connected")
		})
	}
	return ok
}

// busy notes that the client is not waited for any more. It returns false if it
// has lost its place.
func (c *httpClient) busy() bool {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.since = time.Time{}
	_, ok := c.h.clients[c]
	return ok
}

// waits notes that the client is waited for from now on.
func (c *httpClient) waits() {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.since = time.Now()
}

// Close closes the connection and frees its place.
func (c *httpClient) Close() error {
	c.h.mu.Lock()
	delete(c.h.clients, c)
	c.h.mu.Unlock()
	return c.Conn.Close()
}
