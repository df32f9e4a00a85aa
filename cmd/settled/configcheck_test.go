package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestConfigCheckIsServe: what serve refuses because of the configuration alone, config
// validate refuses with the same words.
func TestConfigCheckIsServe(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	key := file("judge.key", strings.Repeat("0", 63)+"3", 0o600)
	open := file("open.key", strings.Repeat("0", 63)+"3", 0o644)
	junk := file("junk", "junk", 0o600)
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	node := "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + key + "\"]}\n"
	sound := node + "http: {listen: \"127.0.0.1:0\"}\n"
	for it, text := range map[string]string{
		"empty file":               "",
		"no key":                   "clearnode: {url: \"ws://127.0.0.1:1/ws\"}\n",
		"node by https":            "clearnode: {url: \"https://127.0.0.1/ws\", key_files: [\"" + key + "\"]}\n",
		"key that others read":     "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + open + "\"]}\n",
		"key that is none":         "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + junk + "\"]}\n",
		"key twice":                "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + key + "\", \"" + key + "\"]}\n",
		"validity above expiry":    "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + key + "\"], request_validity: 2m}\n",
		"listen without a host":    node + "http: {listen: \"8090\"}\n",
		"listen at no port":        node + "http: {listen: \"127.0.0.1:99999\"}\n",
		"profiles for everybody":   node + "http: {listen: \"0.0.0.0:0\", pprof: true}\n",
		"token too short":          sound + "\nhttp.token_file: \"" + junk + "\"\n",
		"origin without a scheme":  sound + "\nhttp.origin: ops.example\n",
		"NATS by http":             sound + "nats: {url: \"http://127.0.0.1:4222\"}\n",
		"NATS without a host":      sound + "nats: {url: \"nats://\"}\n",
		"one server of two":        sound + "nats: {url: \"nats://a:4222,,nats://b:4222\"}\n",
		"no such CA":               sound + "nats: {tls: {ca: \"" + dir + "/none\"}}\n",
		"CA that is none":          sound + "nats: {tls: {ca: \"" + junk + "\"}}\n",
		"certificate without key":  sound + "nats: {tls: {cert: \"" + junk + "\"}}\n",
		"certificate that is none": sound + "nats: {tls: {cert: \"" + junk + "\", key: \"" + junk + "\"}}\n",
		"seed that is none":        sound + "nats: {nkey_file: \"" + junk + "\"}\n",
		"credentials missing":      sound + "nats: {credentials_file: \"" + dir + "/none\"}\n",
		"prefix without a dot":     sound + "nats: {prefix: \"prod\"}\n",
		"embedded at no port":      sound + "embedded: {enabled: true, listen: \"4222\"}\n",
		"embedded for everybody":   sound + "embedded: {enabled: true, listen: \"0.0.0.0:0\"}\n",
		"embedded replicas":        sound + "embedded: {enabled: true}\nnats: {replicas: 3}\n",
		"log level":                sound + "log: {level: loud}\n",
		"small stream":             sound + "nats: {max_bytes: {settlements: 10}}\n",
		"limit of no policy":       sound + "limits: [{scenario: nothing, per: session, amount: \"1\"}]\n",
		"wrong checksum":           "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + key + "\"], node_address: \"0x6813eb9362372EEF6200f3b1dbC3f819671cBA69\"}\n",
		"unknown section":          sound + "natz: {url: \"nats://a\"}\n",
		"listen at no host":        node + "http: {listen: \"not a host:80\"}\n",
		"listen at no address":     node + "http: {listen: \"999.1.1.1:80\"}\n",
		"node at no port":          "clearnode: {url: \"ws://127.0.0.1:99999/ws\", key_files: [\"" + key + "\"]}\n",
		"node without a host":      "clearnode: {url: \"ws://:80/ws\", key_files: [\"" + key + "\"]}\n",
		"NATS at no port":          sound + "nats: {url: \"nats://127.0.0.1:99999\"}\n",
		"two kinds of servers":     sound + "nats: {url: [\"nats://127.0.0.1:1\", \"ws://127.0.0.1:2\"]}\n",
		"domain of two tokens":     sound + "nats: {domain: \"a.b\"}\n",
		"domain with a wildcard":   sound + "nats: {domain: \"*\"}\n",
		"stream of a subject":      sound + "cosign: {outcomes_stream: \"OUTCOMES.>\"}\n",
		"two origins":              sound + "\nhttp.origin: \"https://a.example,https://b.example\"\n",
		"no workers":               sound + "consumer: {workers: 0}\n",
		"log level by number":      sound + "log: {level: \"20\"}\n",
		"no log":                   sound + "log: {level: disabled}\n",
		"key that is a pipe":       "clearnode: {url: \"ws://127.0.0.1:1/ws\", key_files: [\"" + pipe + "\"]}\n",
		"certificate's key a pipe": sound + "nats: {tls: {cert: \"" + junk + "\", key: \"" + pipe + "\"}}\n",
		"empty URL of NATS":        sound + "nats: {url: \"\"}\n",
	} {
		t.Run(it, func(t *testing.T) {
			path := file(strings.ReplaceAll(it, " ", "-")+".yaml", text, 0o600)
			last := func(args ...string) (int, string) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var errs bytes.Buffer
				status := runChecked(ctx, append(args, "--config", path), strings.NewReader(""), &bytes.Buffer{}, &errs)
				_, words, _ := strings.Cut(errs.String(), "settled: ")
				return status, words
			}
			status, words := last("config", "check")
			if status != exitFailed || words == "" {
				t.Errorf("config check: status %d, %q", status, words)
			}
			if status, same := last("serve"); status != exitFailed || same != words {
				t.Errorf("serve: status %d, %q\nconfig check: %q", status, same, words)
			}
		})
	}
	path := file("sound.yaml", sound, 0o600)
	var errs bytes.Buffer
	if status := runChecked(t.Context(), []string{"config", "check", "--config", path}, strings.NewReader(""), &bytes.Buffer{}, &errs); status != exitDone {
		t.Errorf("what the others differ from is refused: %s", errs.String())
	}
}

// TestConfigFileIsReadOnce: a configuration that comes through a pipe counts in full.
func TestConfigFileIsReadOnce(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	const signer = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"
	go func() {
		_ = os.WriteFile(pipe, []byte("trust: {outcome_signers: [\""+signer+"\"]}\nlimits: [{per: session, amount: \"1\"}]\n"), 0o600)
	}()
	var out, errs bytes.Buffer
	if status := runChecked(t.Context(), []string{"config", "print", "--config", pipe}, strings.NewReader(""), &out, &errs); status != exitDone {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	for _, want := range []string{signer, `{per: "session", amount: "1"}`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in force:\n%s", want, out.String())
		}
	}
}

// TestConfigElsewhere: a file that is not named, and rules in variables that nothing
// reads, are refused.
func TestConfigElsewhere(t *testing.T) {
	refused := func(want string, args ...string) {
		t.Helper()
		var errs bytes.Buffer
		if status := runChecked(t.Context(), args, strings.NewReader(""), &bytes.Buffer{}, &errs); status != exitFailed || !strings.Contains(errs.String(), want) {
			t.Errorf("%v: status %d, %q; want %q", args, status, errs.String(), want)
		}
	}
	for _, command := range []string{"print", "check"} {
		refused("it names no file", "config", command, "-c", "")
		refused("it names no file", "config", command, "--config=")
	}
	for name, variable := range map[string]string{"policies": "SETTLED_POLICIES", "limits": "SETTLED_LIMITS"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "[]")
			refused(variable+": "+name+" can stand in the configuration file only", "config", "print")
		})
	}
}
