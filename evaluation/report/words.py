"""The pages' words in each language that they can have, and its way of writing numbers."""

_FRENCH = {
    "Evaluation of {net}": "Évaluation de {net}",
    "Evaluation of {net} on {dataset}, split {split}": "Évaluation de {net} sur {dataset}, "
    "partie {split}",
    "{right} of {count} right": "{right} bonnes réponses sur {count}",
    "{value} right, 95 % interval {low} to {high}": "{value} de bonnes réponses, intervalle à "
    "95\u00a0% de {low} à {high}",
    "The net may be no better than a guess: answering {label} every time would be right for "
    "{share}.": "Le réseau ne fait peut-être pas mieux que le hasard : répondre {label} à chaque "
    "fois serait juste pour {share}.",
    "Numbers": "Chiffres",
    "number": "mesure",
    "value": "valeur",
    "95 % interval": "intervalle à 95\u00a0%",
    "{low} to {high}": "{low} à {high}",
    "Confusion matrix": "Matrice de confusion",
    "Rows are the true classes, columns what the net took them for; the darker, the larger the "
    "share of the true class. Choose a cell to see its pictures.": "Une ligne par vraie classe, "
    "une colonne par réponse du réseau ; plus c'est foncé, plus la part de la vraie classe est "
    "grande. Choisissez une case pour voir ses images.",
    "In the matrix, the arrow keys move and Enter chooses.": "Dans la matrice, les flèches "
    "déplacent et Entrée choisit.",
    "true class": "vraie classe",
    "taken for": "prise pour",
    "Most frequent confusions": "Confusions les plus fréquentes",
    "times": "fois",
    "share": "part",
    "There are none.": "Il n'y en a pas.",
    "{label} taken for {taken}": "{label} prise pour {taken}",
    "{label} recognised": "{label} reconnue",
    "{count} examples, {share} of {label}": "{count} exemples, {share} de {label}",
    "{shown} of {count} are shown": "{shown} sur {count} sont montrées",
    "Mistakes the net was surest of": "Erreurs dont le réseau était le plus sûr",
    "Examples the net was least sure of": "Exemples dont le réseau était le moins sûr",
    "{shown} of {count} mistakes, as the net saw them, with its answer and the probability that it "
    "gave.": "{shown} erreurs sur {count}, telles que le réseau les a vues, avec sa réponse et la "
    "probabilité qu'il lui donnait.",
    "{shown} of {count} examples, right or wrong.": "{shown} exemples sur {count}, bons ou "
    "mauvais.",
    "Show which places led to the answer": "Montrer les endroits qui ont mené à la réponse",
    "The warmer a place, the more it led to the net's answer (Grad-CAM).": "Plus un endroit est "
    "chaud, plus il a contribué à la réponse du réseau (Grad-CAM).",
    "Trained on {count} examples, {least} to {most} of a class.": "Entraîné sur {count} exemples, "
    "de {least} à {most} par classe.",
    "Trained on {count} examples, {least} of each class.": "Entraîné sur {count} exemples, {least} "
    "par classe.",
    "trained on": "apprentissage",
    "is {label}": "est : {label}",
    "right": "bonne réponse",
    "Classes": "Classes",
    "Choose a heading to sort by it.": "Choisissez un titre de colonne pour trier.",
    "class": "classe",
    "precision": "précision",
    "recall": "rappel",
    "f1": "F1",
    "support": "exemples",
    "predicted": "réponses",
    "share right": "part de bonnes réponses",
    "gap": "écart",
    "as sure as right": "aussi sûr que juste",
    "share of the examples that is right": "part des exemples dont la réponse est bonne",
    "Expected calibration error {error}, {count} examples": "Erreur de calibration attendue "
    "{error}, {count} exemples",
    "probability of the predicted class": "probabilité de la classe prédite",
    "Reliability of {subject}": "Fiabilité de {subject}",
    "Confusion of {subject}": "Confusion de {subject}",
    "share of the true class": "part de la vraie classe",
    "predicted class": "classe prédite",
    "most frequent confusions": "confusions les plus fréquentes",
    "{count} × {label} as {taken}": "{count} × {label} prise pour {taken}",
    "none": "aucune",
    "Training curves": "Courbes d'apprentissage",
    "Reliability of the probabilities": "Fiabilité des probabilités",
    "Data": "Données",
    "What was evaluated": "Ce qui a été évalué",
    "How it was trained": "Comment il a été entraîné",
    "Options that differ from their defaults.": "Options qui diffèrent de leur défaut.",
    "All options": "Toutes les options",
    "option": "option",
    "accuracy": "exactitude",
    "recall at {k}": "rappel parmi {k}",
    "loss": "perte",
    "macro precision": "précision macro",
    "macro recall": "rappel macro",
    "macro f1": "F1 macro",
    "weighted precision": "précision pondérée",
    "weighted recall": "rappel pondéré",
    "weighted f1": "F1 pondéré",
    "matthews correlation": "corrélation de Matthews",
    "ece": "erreur de calibration",
    "ece adaptive": "erreur de calibration, paquets égaux",
    "num correct": "bonnes réponses",
    "classes without examples": "classes sans exemple",
    "parameters": "paramètres",
    "multiply adds": "multiplications-additions",
    "matthews": "corrélation de Matthews",
    "cohen kappa": "kappa de Cohen",
    "brier": "score de Brier",
    "roc auc": "aire sous la courbe ROC",
    "average precision": "précision moyenne",
    "temperature": "température",
    "num examples": "exemples",
    "num classes": "classes",
    "images per second": "images par seconde",
    "model name": "réseau",
    "checkpoint": "point de sauvegarde",
    "global step": "pas",
    "training seconds": "secondes d'apprentissage",
    "training images": "images d'apprentissage vues",
    "fitted temperature": "température ajustée",
    "tensorflow": "TensorFlow",
    "moving averages": "moyennes mobiles",
    "image size": "taille des images",
    "preprocessing name": "prétraitement",
    "use grayscale": "niveaux de gris",
    "tta": "vues par image",
    "batch size": "taille des lots",
    "dataset": "jeu de données",
    "split": "partie",
    "files": "fichiers",
    "bad records": "enregistrements défectueux",
    "dataset fingerprint": "empreinte des données",
    "labels": "noms des classes",
    "date": "date",
    "Comparison of {names}": "Comparaison de {names}",
    "{count} examples of {dataset}, split {split}": "{count} exemples de {dataset}, partie {split}",
    "Of {count} examples, {gained} are right with {other} only and {lost} with {first} only "
    "(McNemar's exact test: p {p}).": "Sur {count} exemples, {gained} sont justes avec {other} "
    "seulement et {lost} avec {first} seulement (test exact de McNemar : p {p}).",
    "Chance would explain such a difference.": "Le hasard expliquerait une telle différence.",
    "{name} is better, beyond chance.": "{name} est meilleur, au-delà du hasard.",
    "Runs": "Entraînements",
    "run": "entraînement",
    "McNemar's exact test of each pair": "Test exact de McNemar pour chaque paire",
    "p, Holm's correction": "p, correction de Holm",
    "Accuracy against {cost}": "Exactitude en fonction de : {cost}",
    "No run beats those on the line in both.": "Aucun ne bat ceux de la ligne à la fois en "
    "exactitude et en coût.",
    "{other} against {first}": "{other} par rapport à {first}",
    "Recall of each class; p by McNemar's exact test on its examples, corrected by Holm for the "
    "number of classes.": "Rappel de chaque classe ; p par le test exact de McNemar sur ses "
    "exemples, corrigé par Holm pour le nombre de classes.",
    "difference, points": "écart, points",
    "Right with {name} only": "Justes avec {name} seulement",
    "training, seconds": "entraînement, secondes",
    "training, images per second": "entraînement, images par seconde",
    "export, bytes": "modèle exporté, octets",
    "milliseconds for 1 image": "millisecondes pour 1 image",
    "milliseconds for 8 images": "millisecondes pour 8 images",
    "Classified pictures": "Images classées",
    "{count} pictures": "{count} images",
    "{count} unsure: their likeliest class has less than {share}": "{count} incertaines : leur "
    "classe la plus probable a moins de {share}",
    "{count} could not be classified": "{count} n'ont pas pu être classées",
    "Show the unsure ones only": "Ne montrer que les incertaines",
    "Which places led to {label}": "Les endroits qui ont mené à {label}",
    "unsure": "incertaine",
    "Could not be classified": "N'ont pas pu être classées",
    "file": "fichier",
    "reason": "raison",
    "yes": "oui",
    "no": "non",
}

_ENGLISH = {
    "ece": "calibration error",
    "ece adaptive": "calibration error (equal bins)",
    "brier": "Brier score",
    "roc auc": "ROC-AUC",
    "matthews": "Matthews correlation",
    "cohen kappa": "Cohen's kappa",
    "num correct": "right answers",
    "tta": "views of an image",
    "num examples": "examples",
    "num classes": "classes",
    "macro f1": "macro F1",
    "weighted f1": "weighted F1",
    "f1": "F1",
}


class Words:
    """Words and numbers in one language, of `evaluation.options.LANGUAGES`."""

    def __init__(self, language: str):
        self.language = language

    def __call__(self, english: str, **values: object) -> str:
        """A sentence; what stands in braces is filled in. Unknown ones stay English."""
        known = _FRENCH if self.language == "fr" else _ENGLISH
        text = known.get(english, english)
        return text.format(**values) if values else text

    def count(self, number: int) -> str:
        """A whole number, its thousands apart."""
        return f"{number:,}".replace(",", "\u202f" if self.language == "fr" else ",")

    def number(self, number: float, digits: int = 4) -> str:
        text = f"{number:,.{digits}f}"
        if self.language == "fr":
            text = text.replace(",", "\u202f").replace(".", ",")
        return text

    def p(self, p: float) -> str:
        """The probability that a test gives."""
        return self.number(p) if p >= 0.0001 else f"< {self.number(0.0001)}"

    def share(self, share: float, digits: int = 1) -> str:
        """0.25 as a percentage."""
        return f"{self.number(100 * share, digits)}\u00a0%"


ENGLISH = Words("en")


def known_sentences() -> frozenset[str]:
    """The English of what can be said in French too."""
    return frozenset(_FRENCH)
