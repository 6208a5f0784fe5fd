"""The demo's words in English and in French."""

ENGLISH = {
    "title": "What is in the picture?",
    "one": "Picture",
    "many": "Many pictures",
    "report": "Evaluation",
    "comparison": "Comparison",
    "picture": "Your picture",
    "classes": "Likeliest classes",
    "heat": "Which places led to the class",
    "examples": "Examples",
    "feedback": "Is the answer wrong, or the picture a good example? Say what it shows. Picture "
    "and label are kept on the server for the next training.",
    "this_is": "This is a …",
    "keep": "Keep it",
    "files": "Drop pictures here",
    "classify": "Classify",
    "table": "Answers",
    "download": "Download as CSV",
    "privacy": "Pictures are answered on this server, and deleted within a day unless you keep "
    "them.",
    "unreadable": "This file can't be read as a picture: {reason}",
    "too_large": "This picture has {megapixels:.3g} million pixels; {most:g} million are taken.",
    "too_many": "{count} pictures are too many at once; {most} are taken.",
    "no_files": "Drop some pictures first.",
    "no_label": "Say what the picture shows first, in at most 100 characters.",
    "not_kept": "The picture could not be kept. Please tell those who run this page.",
    "no_picture": "Choose a picture first.",
    "gone": "This picture was deleted here meanwhile. Please choose it again.",
    "kept": "Thank you. Kept as {label}; {count} pictures have been kept so far.",
}

FRENCH = {
    "title": "Que montre l'image ?",
    "one": "Une image",
    "many": "Plusieurs images",
    "report": "Évaluation",
    "comparison": "Comparaison",
    "picture": "Votre image",
    "classes": "Classes les plus probables",
    "heat": "Les endroits qui ont mené à la classe",
    "examples": "Exemples",
    "feedback": "La réponse est fausse, ou l'image est un bon exemple ? Dites ce qu'elle montre. "
    "L'image et son étiquette sont gardées sur le serveur pour le prochain entraînement.",
    "this_is": "C'est …",
    "keep": "Garder",
    "files": "Déposez des images ici",
    "classify": "Classer",
    "table": "Réponses",
    "download": "Télécharger en CSV",
    "privacy": "Les images sont traitées sur ce serveur, et effacées en un jour sauf si vous les "
    "gardez.",
    "unreadable": "Ce fichier n'est pas une image lisible : {reason}",
    "too_large": "Cette image a {megapixels:.3g} millions de pixels ; {most:g} millions sont "
    "acceptés.",
    "too_many": "{count} images d'un coup sont trop ; {most} sont acceptées.",
    "no_files": "Déposez d'abord des images.",
    "no_label": "Dites d'abord ce que montre l'image, en 100 caractères au plus.",
    "not_kept": "L'image n'a pas pu être gardée. Signalez-le aux responsables de cette page.",
    "no_picture": "Choisissez d'abord une image.",
    "gone": "Cette image a été supprimée ici entre-temps. Veuillez la choisir à nouveau.",
    "kept": "Merci. Gardée comme {label} ; {count} images ont été gardées jusqu'ici.",
}


def of(accept_language: str) -> dict[str, str]:
    """The words in the language that a browser's Accept-Language header prefers."""
    first = accept_language.split(",")[0].strip().lower()
    return FRENCH if first.split(";")[0].split("-")[0] == "fr" else ENGLISH
