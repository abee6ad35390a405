"""Why a picture and a caption have the score they have: what changes when regions and words are left out."""
