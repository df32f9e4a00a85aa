package cloudevent

import (
	"maps"
	"slices"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"pgregory.net/rapid"
)

// validate accepts the attributes that the CloudEvents SDK accepts. It is stricter in two
// cases: the SDK takes a blank subject for an absent one, and does not check times.
func TestValidateIsLikeTheSDK(t *testing.T) {
	values := rapid.SampledFrom([]string{
		"", " ", "x", "/a b", "#", "://", "http://[::1", "%zz", "urn:x:y", "https://a.example/b", "mailto:a@b", "a/b", "a/b/c", "text/plain; x", "text/plain; charset=utf-8",
		"2026-01-02T03:04:05.678Z", "2026-01-02", "yesterday",
	})
	rapid.Check(t, func(t *rapid.T) {
		ev := &event{attributes: map[string]string{"specversion": "1.0"}}
		sdk := cloudevents.New(cloudevents.CloudEventsVersionV1)
		want := true
		setters := map[string]func(string){
			"id": sdk.SetID, "type": sdk.SetType, "datacontenttype": sdk.SetDataContentType, "dataschema": sdk.SetDataSchema,
			"source":  func(s string) { sdk.SetSource(s); want = want && s != " " }, // which the SDK accepts
			"subject": func(s string) { want = want && s != "" && s != " " },
			"time":    func(s string) { _, err := types.ParseTime(s); want = want && err == nil },
			"ext":     func(s string) { sdk.SetExtension("ext", s) },
		}
		for _, name := range slices.Sorted(maps.Keys(setters)) {
			if rapid.Bool().Draw(t, name+" is given") {
				ev.attributes[name] = values.Draw(t, name)
				setters[name](ev.attributes[name])
			}
		}
		want = want && sdk.Validate() == nil
		if err := ev.validate(); (err == nil) != want {
			t.Fatalf("%q: %v, want it valid: %t", ev.attributes, err, want)
		}
	})
}
