package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// demoToken makes a token for the demo's dashboard, and the file that it is read from.
func demoToken(dir string) (token, path string, err error) {
	token, path = rand.Text(), filepath.Join(dir, "token")
	return token, path, os.WriteFile(path, []byte(token), 0o600)
}

// boardText says where the dashboard is, and what its buttons ask for.
func (d *demo) boardText() string {
	text := fmt.Sprintf("The dashboard is at http://%s/", d.service.Http.Addr)
	if d.token != "" {
		text += "; to replay and discard it asks for the token " + d.token
	}
	return text + "."
}
