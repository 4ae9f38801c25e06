package dynamotable

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/ringback/ringback/internal/job"
	"github.com/ringback/ringback/internal/jobtable"
)

// Search returns the records of jobs in one page of a table that contain a text, how many items the page has,
// and where the next one begins. The first page begins at "", and the last one has no next. The text must be
// the same in JSON. The functions neither need it nor have the permission to scan the table.
func Search(
	ctx context.Context, client dynamodb.ScanAPIClient, table, containing, from string,
) (found []job.Record, read int, next string, err error) {
	return scan[job.Record](ctx, client, from, &dynamodb.ScanInput{
		TableName:                 aws.String(table),
		ConsistentRead:            aws.Bool(true),
		FilterExpression:          aws.String("attribute_exists(#state) AND contains(#record, :text)"),
		ExpressionAttributeNames:  map[string]string{"#state": "state", "#record": "record"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":text": text(containing)},
	})
}

// ReplaysOf returns the copies, in one page of a table, of the jobs of a customer with one of these names. Everything
// else is as in [Search].
func ReplaysOf(
	ctx context.Context, client dynamodb.ScanAPIClient, table string, names []string, from string,
) (found []job.ReplayCopy, read int, next string, err error) {
	if len(names) == 0 {
		return nil, 0, "", nil
	}
	values := map[string]types.AttributeValue{":prefix": text(replayPrefix)}
	var matches []string
	for i, name := range names {
		value := fmt.Sprintf(":name%d", i)
		values[value] = text(name)
		matches = append(matches, "contains(#record, "+value+")")
	}
	return scan[job.ReplayCopy](ctx, client, from, &dynamodb.ScanInput{
		TableName:      aws.String(table),
		ConsistentRead: aws.Bool(true),
		FilterExpression: aws.String(
			"begins_with(#id, :prefix) AND (" + strings.Join(matches, " OR ") + ")"),
		ExpressionAttributeNames:  map[string]string{"#id": "id", "#record": "record"},
		ExpressionAttributeValues: values,
	})
}

// scan returns the records in one page.
func scan[R jobtable.Record[R]](
	ctx context.Context, client dynamodb.ScanAPIClient, from string, in *dynamodb.ScanInput,
) (found []R, read int, next string, err error) {
	table := *in.TableName
	if from != "" {
		in.ExclusiveStartKey = map[string]types.AttributeValue{"id": text(from)}
	}
	out, err := client.Scan(ctx, in)
	if err != nil {
		return nil, 0, "", fmt.Errorf("scan table %s: %w", table, err)
	}
	for _, item := range out.Items {
		r, err := decode[R](item)
		if err != nil {
			return nil, 0, "", fmt.Errorf("item of table %s: %w", table, err)
		}
		found = append(found, r)
	}
	if id, ok := out.LastEvaluatedKey["id"].(*types.AttributeValueMemberS); ok {
		next = id.Value
	}
	return found, int(out.ScannedCount), next, nil
}
