// Uses an image service by gophercloud as Packer and Terraform do; see test_v2_gophercloud.py.
//
// main URL: create, upload, wait, list, change, share, download and delete an image. Prints a line
// of JSON for each step and ends with 1 at the first error.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/ioutil"
	"os"

	"github.com/gophercloud/gophercloud"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/imagedata"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/images"
	"github.com/gophercloud/gophercloud/openstack/imageservice/v2/members"
)

func check(step string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", step, err)
		os.Exit(1)
	}
}

func told(step string, value interface{}) {
	line, err := json.Marshal(map[string]interface{}{"step": step, "value": value})
	check(step, err)
	fmt.Println(string(line))
}

func main() {
	data := bytes.Repeat([]byte("gophercloud "), 100000)
	provider := &gophercloud.ProviderClient{TokenID: "notused"}
	client := &gophercloud.ServiceClient{
		ProviderClient: provider,
		Endpoint:       os.Args[1] + "/",
		ResourceBase:   os.Args[1] + "/v2/",
	}
	shared := images.ImageVisibilityShared
	made, err := images.Create(client, images.CreateOpts{
		ID:              "6B2C0A52-5C1B-4E0F-9F1E-0D6D2A6F3B11",
		Name:            "by Go",
		Tags:            []string{"b", "a"},
		Visibility:      &shared,
		DiskFormat:      "raw",
		ContainerFormat: "bare",
		MinDisk:         1,
		MinRAM:          64,
		Properties:      map[string]string{"hw_disk_bus": "scsi", "Trait:X": ""},
	}).Extract()
	check("create", err)
	told("create", made)
	check("upload", imagedata.Upload(client, made.ID, bytes.NewReader(data)).ExtractErr())
	shown, err := images.Get(client, made.ID).Extract()
	check("get", err)
	told("get", shown)

	pages, err := images.List(client, images.ListOpts{
		Name: "by Go", Tags: []string{"a", "b"}, Status: images.ImageStatusActive,
		Sort: "name:asc,created_at:desc", SizeMin: 1, Limit: 1,
	}).AllPages()
	check("list", err)
	listed, err := images.ExtractImages(pages)
	check("list", err)
	told("list", len(listed))

	changed, err := images.Update(client, made.ID, images.UpdateOpts{
		images.ReplaceImageName{NewName: "renamed"},
		images.ReplaceImageTags{NewTags: []string{"c"}},
		images.ReplaceImageMinDisk{NewMinDisk: 2},
		images.UpdateImageProperty{Op: images.AddOp, Name: "os", Value: "plan9"},
		images.UpdateImageProperty{Op: images.ReplaceOp, Name: "hw_disk_bus", Value: "ide"},
		images.UpdateImageProperty{Op: images.RemoveOp, Name: "Trait:X"},
	}).Extract()
	check("update", err)
	told("update", changed)
	same, err := images.Update(client, made.ID, images.UpdateOpts{}).Extract()
	check("update of nothing", err)
	told("update of nothing", same.UpdatedAt.Equal(changed.UpdatedAt))

	member, err := members.Create(client, made.ID, "project").Extract()
	check("share", err)
	told("share", member.Status)
	member, err = members.Update(client, made.ID, "project",
		members.UpdateOpts{Status: "accepted"}).Extract()
	check("accept", err)
	told("accept", member.Status)
	pages, err = members.List(client, made.ID).AllPages()
	check("members", err)
	found, err := members.ExtractMembers(pages)
	check("members", err)
	told("members", len(found))
	check("unshare", members.Delete(client, made.ID, "project").ExtractErr())

	reader, err := imagedata.Download(client, made.ID).Extract()
	check("download", err)
	back, err := ioutil.ReadAll(reader)
	check("download", err)
	told("download", bytes.Equal(back, data))
	check("delete", images.Delete(client, made.ID).ExtractErr())
	_, err = images.Get(client, made.ID).Extract()
	_, gone := err.(gophercloud.ErrDefault404)
	told("gone", gone)
}
