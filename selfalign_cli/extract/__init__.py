"""From pictures to region features: find and decode pictures, compute one map a picture, choose boxes, pool, write."""
